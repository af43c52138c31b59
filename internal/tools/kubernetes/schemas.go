package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"sigs.k8s.io/yaml"
)

// kinds are those that the chart makes, by the names that they have in Kubernetes' api/openapi-spec/swagger.json.
var kinds = map[string]string{
	"configmap":           "io.k8s.api.core.v1.ConfigMap",
	"pod":                 "io.k8s.api.core.v1.Pod",
	"service":             "io.k8s.api.core.v1.Service",
	"serviceaccount":      "io.k8s.api.core.v1.ServiceAccount",
	"statefulset":         "io.k8s.api.apps.v1.StatefulSet",
	"networkpolicy":       "io.k8s.api.networking.v1.NetworkPolicy",
	"poddisruptionbudget": "io.k8s.api.policy.v1.PodDisruptionBudget",
}

// resources are the kinds of the Prometheus operator, by the plurals in the names of its CRDs' files.
var resources = map[string]string{"servicemonitor": "servicemonitors", "prometheusrule": "prometheusrules"}

const (
	reference = "#/definitions/"
	quantity  = "io.k8s.apimachinery.pkg.api.resource.Quantity"
	intstr    = "io.k8s.apimachinery.pkg.util.intstr.IntOrString"
)

// schemas writes a strict schema for each kind: no field but those that are known, and no descriptions.
func schemas(swagger, crds, out string) error {
	var api struct{ Definitions map[string]any }
	text, err := os.ReadFile(swagger)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, &api); err != nil {
		return fmt.Errorf("read %s: %w", swagger, err)
	}
	either := map[string]any{"oneOf": []any{map[string]any{"type": "string"}, map[string]any{"type": "number"}}}
	api.Definitions[quantity], api.Definitions[intstr] = either, either
	for kind, name := range kinds {
		needed := map[string]any{}
		collect(api.Definitions, name, needed)
		schema := needed[name].(map[string]any)
		delete(needed, name)
		schema["definitions"] = needed
		if err := write(out, kind, schema); err != nil {
			return err
		}
	}
	for kind, plural := range resources {
		schema, err := ofResource(filepath.Join(crds, "monitoring.coreos.com_"+plural+".yaml"))
		if err != nil {
			return err
		}
		if err := write(out, kind, schema); err != nil {
			return err
		}
	}
	return nil
}

// collect takes a definition and all that it refers to.
func collect(definitions map[string]any, name string, into map[string]any) {
	if _, there := into[name]; there {
		return
	}
	into[name] = nil
	into[name] = strictly(definitions[name])
	for _, other := range references(into[name]) {
		collect(definitions, other, into)
	}
}

func references(v any) (names []string) {
	switch v := v.(type) {
	case map[string]any:
		if ref, ok := v["$ref"].(string); ok {
			names = append(names, strings.TrimPrefix(ref, reference))
		}
		for _, child := range v {
			names = append(names, references(child)...)
		}
	case []any:
		for _, child := range v {
			names = append(names, references(child)...)
		}
	}
	return names
}

// ofResource is the schema of a CRD's version v1 or, if it has none, its first.
func ofResource(file string) (any, error) {
	var crd struct {
		Spec struct {
			Versions []struct {
				Name   string
				Schema struct{ OpenAPIV3Schema map[string]any }
			}
		}
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	if err := yaml.Unmarshal(text, &crd); err != nil {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	schema := crd.Spec.Versions[0].Schema.OpenAPIV3Schema
	for _, v := range crd.Spec.Versions {
		if v.Name == "v1" {
			schema = v.Schema.OpenAPIV3Schema
		}
	}
	delete(schema["properties"].(map[string]any), "metadata") // it is that of every kind
	strict := strictly(schema).(map[string]any)
	strict["properties"].(map[string]any)["metadata"] = map[string]any{"type": "object"}
	return strict, nil
}

// strictly copies a schema without what a validator has no use for, and lets no object have unknown fields.
func strictly(v any) any {
	switch v := v.(type) {
	case map[string]any:
		schema := make(map[string]any, len(v))
		for key, child := range v {
			properties, ok := child.(map[string]any)
			switch {
			case key == "properties" && ok:
				copied := make(map[string]any, len(properties))
				for name, property := range properties {
					copied[name] = strictly(property)
				}
				schema[key] = copied
			case key == "description" || key == "default" || strings.HasPrefix(key, "x-kubernetes-"):
			default:
				schema[key] = strictly(child)
			}
		}
		if _, object := schema["properties"]; object && schema["additionalProperties"] == nil {
			schema["additionalProperties"] = false
		}
		if v["x-kubernetes-int-or-string"] == true {
			delete(schema, "type")
		}
		return schema
	case []any:
		copied := make([]any, len(v))
		for i, child := range v {
			copied[i] = strictly(child)
		}
		return copied
	}
	return v
}

func write(out, kind string, schema any) error {
	text, err := json.MarshalIndent(schema, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(out, kind+".json"), append(text, '\n'), 0o644)
}
