package monitoring_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const grafana = "../../deploy/grafana"

// dashboard is what tests look at of one.
type dashboard struct {
	UID        string `json:"uid"`
	Title      string `json:"title"`
	Templating struct {
		List []struct {
			Name  string `json:"name"`
			Type  string `json:"type"`
			Query any    `json:"query"`
		} `json:"list"`
	} `json:"templating"`
	Panels []struct {
		Type        string `json:"type"`
		Title       string `json:"title"`
		Description string `json:"description"`
		Datasource  struct {
			UID string `json:"uid"`
		} `json:"datasource"`
		GridPos struct{ X, Y, W, H int } `json:"gridPos"`
		Links   []struct {
			URL string `json:"url"`
		} `json:"links"`
		Targets []struct {
			Expr string `json:"expr"`
		} `json:"targets"`
	} `json:"panels"`
}

// variables puts a value in the place of what Grafana fills in where a duration is to be.
var variables = strings.NewReplacer("[$__rate_interval]", "[5m]", "[$__range]", "[6h]")

// TestDashboards: no panel names what /metrics does not show, and each says what it shows, fits, and leads to a runbook that is there.
// `make verify` sees to it that the dashboards are what their generator makes.
func TestDashboards(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(filepath.Join(grafana, "*.json"))
	if err != nil || len(files) != 4 {
		t.Fatal("dashboards: ", files, err)
	}
	shown, names := scrape(t).withPrometheus().withRecorded(t), alertNames(t)
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var d dashboard
			if err := json.Unmarshal(text, &d); err != nil {
				t.Fatal(err)
			}
			d.check(t, shown, names)
			if want := d.UID + ".json"; filepath.Base(file) != want {
				t.Errorf("it should be named %s", want)
			}
		})
	}
}

func (d *dashboard) check(t *testing.T, shown page, alerts []string) {
	t.Helper()
	for _, v := range d.Templating.List {
		if text, ok := v.Query.(string); ok && v.Type == "query" {
			inner, _, _ := cutLast(strings.TrimPrefix(text, "label_values("), ", ")
			for _, problem := range shown.unknown(parse(t, inner)) {
				t.Errorf("variable %s: %s", v.Name, problem)
			}
		}
	}
	width := 0
	for _, p := range d.Panels {
		if p.Type == "row" {
			continue
		}
		width += p.GridPos.W
		if !strings.HasSuffix(p.Description, ".") || p.Datasource.UID != "${datasource}" || len(p.Targets) == 0 {
			t.Errorf("%s: it needs a description (%q), the data source that is chosen (%q) and a query", p.Title, p.Description, p.Datasource.UID)
		}
		for _, target := range p.Targets {
			for _, problem := range shown.unknown(parse(t, variables.Replace(target.Expr))) {
				t.Errorf("%s: %s", p.Title, problem)
			}
		}
		for _, l := range p.Links {
			name, ok := strings.CutPrefix(l.URL, "${runbooks}/")
			if !ok || !slices.Contains(alerts, strings.TrimSuffix(name, ".md")) {
				t.Errorf("%s: no runbook at %s", p.Title, l.URL)
			}
		}
	}
	if width == 0 || width%24 != 0 {
		t.Errorf("panels leave gaps: they are %d wide together, and a line is 24", width)
	}
}
