// Command kubernetes does with a Helm chart what `helm lint --strict`, `helm template` and `kubeconform -strict` do, by their own
// packages: those programs take several times as long to build, for all that talks to clusters.
//
//	kubernetes check CHART SCHEMAS [VALUES]   prints what the chart makes of the values, NOTES.txt last; exit code 1 if anything is wrong
//	kubernetes conform SCHEMAS MANIFESTS      exit code 1 if a manifest is not what its kind takes
//	kubernetes schemas SWAGGER CRDS OUT       makes the JSON schemas of SCHEMAS
package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/yannh/kubeconform/pkg/validator"
	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/common/util"
	"helm.sh/helm/v4/pkg/chart/v2/lint"
	"helm.sh/helm/v4/pkg/chart/v2/lint/support"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/engine"
)

const (
	release   = "callbackd"
	namespace = "iot"
)

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string, out io.Writer) error {
	switch {
	case len(args) >= 3 && len(args) <= 4 && args[0] == "check":
		return check(out, args[1], args[2], args[3:])
	case len(args) == 3 && args[0] == "conform":
		manifests, err := os.ReadFile(args[2])
		if err != nil {
			return err
		}
		return conform(args[1], manifests)
	case len(args) == 4 && args[0] == "schemas":
		return schemas(args[1], args[2], args[3])
	}
	return errors.New("usage: kubernetes check CHART SCHEMAS [VALUES] | kubernetes conform SCHEMAS MANIFESTS | kubernetes schemas SWAGGER CRDS OUT")
}

// check renders first, for a linter tells less of values that the schema refuses.
func check(out io.Writer, dir, schemas string, files []string) error {
	values := map[string]any{}
	for _, name := range files {
		read, err := common.ReadValuesFile(name)
		if err != nil {
			return err
		}
		values = read
	}
	manifests, notes, err := template(dir, values)
	if err != nil {
		return err
	}
	if err := errors.Join(strict(dir, values), conform(schemas, manifests)); err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "%s---\n# NOTES.txt\n%s", manifests, notes)
	return err
}

func template(dir string, values map[string]any) (manifests []byte, notes string, err error) {
	chart, err := loader.Load(dir)
	if err != nil {
		return nil, "", err
	}
	options := common.ReleaseOptions{Name: release, Namespace: namespace, Revision: 1, IsInstall: true}
	complete, err := util.ToRenderValues(chart, values, options, common.DefaultCapabilities)
	if err != nil {
		return nil, "", err
	}
	files, err := engine.Engine{Strict: true}.Render(chart, complete)
	if err != nil {
		return nil, "", err
	}
	var all bytes.Buffer
	for _, name := range slices.Sorted(maps.Keys(files)) {
		text := strings.TrimSpace(files[name])
		switch {
		case path.Base(name) == "NOTES.txt":
			notes = text + "\n"
		case text != "" && !strings.HasPrefix(path.Base(name), "_"):
			fmt.Fprintf(&all, "---\n# %s\n%s\n", name, strings.TrimPrefix(text, "---\n"))
		}
	}
	return all.Bytes(), notes, nil
}

// strict lints, and takes warnings for errors.
func strict(dir string, values map[string]any) error {
	var errs []error
	for _, m := range lint.RunAll(dir, values, namespace).Messages {
		if m.Severity >= support.WarningSev {
			errs = append(errs, m)
		}
	}
	return errors.Join(errs...)
}

// conform holds each document against the schema of its kind; there has to be one.
func conform(schemas string, manifests []byte) error {
	abs, err := filepath.Abs(schemas)
	if err != nil {
		return err
	}
	v, err := validator.New([]string{abs + "/{{.ResourceKind}}.json"}, validator.Opts{Strict: true})
	if err != nil {
		return err
	}
	var errs []error
	for _, r := range v.Validate("manifests", io.NopCloser(bytes.NewReader(manifests))) {
		if r.Status != validator.Valid && r.Status != validator.Empty {
			name := "?"
			if s, err := r.Resource.Signature(); err == nil {
				name = s.Kind + " " + s.Name
			}
			errs = append(errs, fmt.Errorf("%s: %w", name, r.Err))
		}
	}
	return errors.Join(errs...)
}
