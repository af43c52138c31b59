// Package chart tests the Helm chart in deploy/kubernetes. It holds tests alone.
//
// The promise: whatever values the schema of the chart takes, in every case of testdata/values, Helm's linter has nothing to say, each
// manifest is one that its kind's schema knows every field of, and the callbackd.yaml within is one that callbackd takes.
//
// The schemas in testdata/schemas come from k8s.io/kubernetes v1.36.1, api/openapi-spec/swagger.json, and from
// github.com/prometheus-operator/prometheus-operator v0.92.1, example/prometheus-operator-crd. For others, in internal/tools/kubernetes:
//
//	go run . schemas SWAGGER CRDS ../../chart/testdata/schemas
package chart
