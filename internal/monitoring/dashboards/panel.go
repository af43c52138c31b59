package main

import (
	"fmt"
	"strings"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/cog/variants"
	"github.com/grafana/grafana-foundation-sdk/go/common"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/heatmap"
	"github.com/grafana/grafana-foundation-sdk/go/prometheus"
	"github.com/grafana/grafana-foundation-sdk/go/stat"
	"github.com/grafana/grafana-foundation-sdk/go/statetimeline"
	"github.com/grafana/grafana-foundation-sdk/go/timeseries"
)

// board is a dashboard.
type board struct {
	uid, title, description string
	variables               []string // those besides the data source, the job and the instance
	rows                    []row
}

// row is a heading and what stands below it.
type row struct {
	title  string
	panels []panel
}

// look is how a panel shows its queries.
type look int

const (
	lines  look = iota // over time
	areas              // over time, one on the other
	number             // the last value
	states             // over time, by what they mean
	heat               // buckets of a histogram over time
)

// query is an expression and the legend of what it gives.
type query struct{ expr, legend string }

// panel is one field of a dashboard.
type panel struct {
	look        look
	title       string
	description string
	unit        string
	width       uint32  // of 24
	tall        bool    // a number as high as lines are
	queries     []query // of which a number has one
	thresholds  []step  // beyond which the colour changes
	runbook     string  // the alert that goes with it
	meanings    map[string]meaning
}

type step struct {
	from  float64
	color string
}

// meaning is how a value of states reads.
type meaning struct{ text, color string }

func q(expr, legend string) query { return query{expr, legend} }

// selected are the labels by which all that a dashboard shows is selected, with more.
func selected(metric string, more ...string) string {
	return metric + "{" + strings.Join(append([]string{`job="$job"`, `instance=~"$instance"`}, more...), ", ") + "}"
}

// served selects by the service as well. All services that can be chosen are those that the platform calls: no heartbeat among them.
func served(metric string, more ...string) string {
	return selected(metric, append([]string{`service=~"$service"`}, more...)...)
}

func handled(metric string, more ...string) string {
	return selected(metric, append([]string{`handler=~"$handler"`}, more...)...)
}

func rate(counter string) string     { return "rate(" + counter + "[$__rate_interval])" }
func increase(counter string) string { return "increase(" + counter + "[$__range])" }

func sum(by, expr string) string {
	if by == "" {
		return "sum(" + expr + ")"
	}
	return "sum by (" + by + ") (" + expr + ")"
}

// quantile is that of a classic histogram.
func quantile(share float64, by, bucket string) string {
	return fmt.Sprintf("histogram_quantile(%g, %s)", share, sum(strings.TrimPrefix(by+", le", ", "), rate(bucket)))
}

// build makes the dashboard.
//
//lint:ignore SA1019 every Grafana imports this model, and only newer ones its successor
func (b board) build() (dashboard.Dashboard, error) {
	//lint:ignore SA1019 every Grafana imports this model, and only newer ones its successor
	d := dashboard.NewDashboardBuilder(b.title).Uid(b.uid).Description(b.description).Tags([]string{"callbackd"}).
		Timezone("browser").Time("now-6h", "now").Refresh("1m").Tooltip(dashboard.DashboardCursorSyncCrosshair).Editable().
		Link(dashboard.NewDashboardLinkBuilder("callbackd").Type(dashboard.DashboardLinkTypeDashboards).Tags([]string{"callbackd"}).
			AsDropdown(true).IncludeVars(true).KeepTime(true)).
		WithVariable(dashboard.NewDatasourceVariableBuilder("datasource").Label("Data source").Type("prometheus")).
		WithVariable(variable("job", "label_values(callbackd_build_info, job)", false)).
		WithVariable(variable("instance", `label_values(callbackd_build_info{job="$job"}, instance)`, true)).
		WithVariable(dashboard.NewTextBoxVariableBuilder("runbooks").Label("Runbooks at").DefaultValue(dashboard.StringOrMap{String: cog.ToPtr("deploy/runbooks")}))
	for _, name := range b.variables {
		metric := map[string]string{
			"service": `callbackd_acks_total{job="$job", service!="heartbeat"}`,
			"handler": `callbackd_inbox_pending_deliveries{job="$job", handler!="heartbeat"}`,
		}[name]
		d.WithVariable(variable(name, "label_values("+metric+", "+name+")", true))
	}
	for _, r := range b.rows {
		d.WithRow(dashboard.NewRowBuilder(r.title))
		for _, p := range r.panels {
			d.WithPanel(p.builder())
		}
	}
	return d.Build()
}

func variable(name, values string, several bool) *dashboard.QueryVariableBuilder {
	v := dashboard.NewQueryVariableBuilder(name).Label(strings.ToUpper(name[:1]) + name[1:]).Datasource(source()).
		Query(dashboard.StringOrMap{String: &values}).Refresh(dashboard.VariableRefreshOnTimeRangeChanged).
		Sort(dashboard.VariableSortAlphabeticalAsc).Multi(several).IncludeAll(several)
	if several {
		v.Current(dashboard.VariableOption{
			Text:  dashboard.StringOrArrayOfString{ArrayOfString: []string{"All"}},
			Value: dashboard.StringOrArrayOfString{ArrayOfString: []string{"$__all"}},
		})
	}
	return v
}

func source() common.DataSourceRef {
	return common.DataSourceRef{Type: cog.ToPtr("prometheus"), Uid: cog.ToPtr("${datasource}")}
}

func (p panel) builder() cog.Builder[dashboard.Panel] {
	switch p.look {
	case number:
		return p.number()
	case states:
		return p.states()
	case heat:
		return p.heat()
	default:
		return p.lines()
	}
}

func (p panel) lines() cog.Builder[dashboard.Panel] {
	b := timeseries.NewPanelBuilder().Title(p.title).Description(p.description).Datasource(source()).Unit(p.unit).Span(p.width).Height(8).
		Min(0).Links(p.links()).Targets(p.targets()).LineWidth(1).FillOpacity(10).ShowPoints(common.VisibilityModeNever).
		Legend(common.NewVizLegendOptionsBuilder().ShowLegend(true).DisplayMode(common.LegendDisplayModeTable).Placement(common.LegendPlacementBottom).
			Calcs([]string{"lastNotNull", "max"})).
		Tooltip(common.NewVizTooltipOptionsBuilder().Mode(common.TooltipDisplayModeMulti).Sort(common.SortOrderDescending))
	if p.look == areas {
		b.FillOpacity(40).Stacking(common.NewStackingConfigBuilder().Mode(common.StackingModeNormal))
	}
	if len(p.thresholds) > 0 {
		b.AxisSoftMax(1.5 * p.thresholds[0].from) // so that the first line shows
		b.Thresholds(p.steps()).ThresholdsStyle(common.NewGraphThresholdsStyleConfigBuilder().Mode(common.GraphThresholdsStyleModeDashed))
	}
	return b
}

func (p panel) number() cog.Builder[dashboard.Panel] {
	height := uint32(4)
	if p.tall {
		height = 8
	}
	b := stat.NewPanelBuilder().Title(p.title).Description(p.description).Datasource(source()).Unit(p.unit).Span(p.width).Height(height).
		Links(p.links()).Targets(p.targets()).Thresholds(p.steps()).NoValue("–").Mappings(p.mappings()).
		ReduceOptions(common.NewReduceDataOptionsBuilder().Calcs([]string{"lastNotNull"})).
		ColorMode(common.BigValueColorModeValue).GraphMode(common.BigValueGraphModeArea)
	if len(p.meanings) > 0 || strings.Contains(p.queries[0].expr, "$__range") {
		b.GraphMode(common.BigValueGraphModeNone)
	}
	return b
}

func (p panel) states() cog.Builder[dashboard.Panel] {
	return statetimeline.NewPanelBuilder().Title(p.title).Description(p.description).Datasource(source()).Span(p.width).Height(8).
		Links(p.links()).Targets(p.targets()).Thresholds(p.steps()).Mappings(p.mappings()).NoValue("none").
		ShowValue(common.VisibilityModeNever).RowHeight(0.8).LineWidth(0)
}

func (p panel) heat() cog.Builder[dashboard.Panel] {
	return heatmap.NewPanelBuilder().Title(p.title).Description(p.description).Datasource(source()).Span(p.width).Height(8).
		Links(p.links()).Targets(p.targets()).Calculate(false).
		YAxis(heatmap.NewYAxisConfigBuilder().Unit(p.unit)).
		Color(heatmap.NewHeatmapColorOptionsBuilder().Mode(heatmap.HeatmapColorModeScheme).Scheme("Blues").Scale(heatmap.HeatmapColorScaleExponential).
			Exponent(0.5).Steps(64))
}

func (p panel) targets() (list []cog.Builder[variants.Dataquery]) {
	for i, query := range p.queries {
		target := prometheus.NewDataqueryBuilder().Datasource(source()).Expr(query.expr).LegendFormat(query.legend).RefId(string(rune('A' + i)))
		switch {
		case p.look == heat:
			target.Format(prometheus.PromQueryFormatHeatmap).Range()
		case p.look == number && strings.Contains(query.expr, "$__range"):
			target.Instant()
		default:
			target.Range()
		}
		list = append(list, target)
	}
	return list
}

// links lead to the runbook, where the operator's copy is.
func (p panel) links() (list []cog.Builder[dashboard.DashboardLink]) {
	if p.runbook != "" {
		list = append(list, dashboard.NewDashboardLinkBuilder("Runbook "+p.runbook).Type(dashboard.DashboardLinkTypeLink).
			Url("${runbooks}/"+p.runbook+".md").TargetBlank(true))
	}
	return list
}

func (p panel) steps() *dashboard.ThresholdsConfigBuilder {
	steps := []dashboard.Threshold{{Color: "green"}}
	for _, s := range p.thresholds {
		steps = append(steps, dashboard.Threshold{Value: &s.from, Color: s.color})
	}
	return dashboard.NewThresholdsConfigBuilder().Mode(dashboard.ThresholdsModeAbsolute).Steps(steps)
}

func (p panel) mappings() []dashboard.ValueMapping {
	if len(p.meanings) == 0 {
		return nil
	}
	options := make(map[string]dashboard.ValueMappingResult)
	for value, m := range p.meanings {
		options[value] = dashboard.ValueMappingResult{Text: &m.text, Color: &m.color}
	}
	return []dashboard.ValueMapping{{ValueMap: &dashboard.ValueMap{Type: dashboard.MappingTypeValueToText, Options: options}}}
}
