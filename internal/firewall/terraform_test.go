package firewall_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/hashicorp/hcl/v2/hclwrite"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
	"github.com/zclconf/go-cty/cty/function/stdlib"

	"callbackd/internal/auth"
	"callbackd/internal/firewall"
)

// document is Terraform as Terraform reads it: what refers to another block has to find it.
type document struct {
	blocks []*hclsyntax.Block
	eval   *hcl.EvalContext
}

func parse(t *testing.T, text string) document {
	t.Helper()
	if formatted := string(hclwrite.Format([]byte(text))); formatted != text {
		t.Errorf("`terraform fmt` would change it to\n%s", formatted)
	}
	file, diagnostics := hclsyntax.ParseConfig([]byte(text), "rules.tf", hcl.InitialPos)
	if diagnostics.HasErrors() {
		t.Fatal(diagnostics)
	}
	d := document{blocks: file.Body.(*hclsyntax.Body).Blocks}
	variables, locals, groups := map[string]cty.Value{}, map[string]cty.Value{}, map[string]cty.Value{}
	for _, b := range d.blocks {
		switch {
		case b.Type == "variable":
			variables[b.Labels[0]] = cty.StringVal("given")
		case b.Type == "locals":
			for name, a := range b.Body.Attributes {
				if _, twice := locals[name]; twice {
					t.Errorf("local %s is there twice", name)
				}
				locals[name] = value(t, a.Expr, nil)
			}
		case b.Labels[0] == "aws_security_group":
			groups[b.Labels[1]] = cty.ObjectVal(map[string]cty.Value{"id": cty.StringVal(b.Labels[1])})
		}
	}
	d.eval = &hcl.EvalContext{
		Functions: map[string]function.Function{"toset": stdlib.MakeToFunc(cty.Set(cty.String))},
		Variables: map[string]cty.Value{"var": cty.ObjectVal(variables), "local": cty.ObjectVal(locals), "aws_security_group": cty.ObjectVal(groups)},
	}
	return d
}

func value(t *testing.T, e hclsyntax.Expression, eval *hcl.EvalContext) cty.Value {
	t.Helper()
	v, diagnostics := e.Value(eval)
	if diagnostics.HasErrors() {
		t.Fatal(diagnostics)
	}
	return v
}

func texts(v cty.Value) (list []string) {
	for _, element := range v.AsValueSlice() {
		list = append(list, element.AsString())
	}
	return list
}

// admitted lists what the rules admit, as "WHERE SOURCE PORTS", and checks that every attribute has a value.
func (d document) admitted(t *testing.T) []string {
	t.Helper()
	admitted := make(map[string]bool)
	seen := make(map[string]bool)
	for _, b := range d.blocks {
		name := strings.Join(append([]string{b.Type}, b.Labels...), ".")
		if b.Type != "locals" && seen[name] {
			t.Errorf("%s is there twice", name)
		}
		seen[name] = true
		if b.Type != "resource" {
			continue
		}
		var rules []string
		switch b.Labels[0] {
		case "aws_security_group":
			d.attributes(t, b.Body, nil)
		case "aws_vpc_security_group_ingress_rule":
			rules = d.ingress(t, b.Body)
		case "google_compute_firewall":
			rules = d.compute(t, b.Body)
		default:
			t.Errorf("a resource of the type %s", b.Labels[0])
		}
		for _, rule := range rules {
			if admitted[rule] {
				t.Errorf("%s is admitted twice", rule)
			}
			admitted[rule] = true
		}
	}
	return slices.Sorted(maps.Keys(admitted))
}

func (d document) attributes(t *testing.T, body *hclsyntax.Body, each map[string]cty.Value) map[string]cty.Value {
	t.Helper()
	eval := d.eval.NewChild()
	eval.Variables = map[string]cty.Value{"each": cty.ObjectVal(each)}
	values := make(map[string]cty.Value)
	for name, a := range body.Attributes {
		values[name] = value(t, a.Expr, eval)
	}
	return values
}

// ingress reads a rule of AWS, which stands for one rule of each source.
func (d document) ingress(t *testing.T, body *hclsyntax.Body) (rules []string) {
	t.Helper()
	for _, source := range texts(value(t, body.Attributes["for_each"].Expr, d.eval)) {
		a := d.attributes(t, body, map[string]cty.Value{"value": cty.StringVal(source)})
		cidr := "cidr_ipv4"
		if strings.Contains(source, ":") {
			cidr = "cidr_ipv6"
		}
		if a["ip_protocol"].AsString() != "tcp" || len(a) != 6 {
			t.Errorf("a rule with %v", slices.Sorted(maps.Keys(a)))
		}
		rules = append(rules, fmt.Sprintf("%s %s %s-%s", a["security_group_id"].AsString(), a[cidr].AsString(),
			a["from_port"].AsBigFloat().Text('f', 0), a["to_port"].AsBigFloat().Text('f', 0)))
	}
	return rules
}

// compute reads a rule of GCP, which takes one version of IP.
func (d document) compute(t *testing.T, body *hclsyntax.Body) (rules []string) {
	t.Helper()
	a := d.attributes(t, body, nil)
	allow := d.attributes(t, body.Blocks[0].Body, nil)
	if a["direction"].AsString() != "INGRESS" || len(body.Blocks) != 1 || body.Blocks[0].Type != "allow" || allow["protocol"].AsString() != "tcp" {
		t.Errorf("a rule with %v and %v", a, allow)
	}
	sources := texts(a["source_ranges"])
	for _, source := range sources {
		if strings.Contains(source, ":") != strings.Contains(sources[0], ":") {
			t.Errorf("a rule of both versions of IP: %v", sources)
		}
		for _, ports := range texts(allow["ports"]) {
			if !strings.Contains(ports, "-") {
				ports += "-" + ports
			}
			rules = append(rules, fmt.Sprintf("%s %s %s", strings.ReplaceAll(texts(a["target_tags"])[0], "-", "_"), source, ports))
		}
	}
	return rules
}

func TestWhoIsAdmittedByTheClouds(t *testing.T) {
	t.Parallel()
	carrier := firewall.Listener{Service: "CarrierService", Host: "", Port: 8080, Public: 443}
	local := firewall.Listener{Service: "AlertService", Host: "127.0.0.1", Port: 28210, Public: 28210}
	for _, c := range []struct {
		name      string
		network   auth.Config
		listeners []firewall.Listener
		want      []string
	}{
		{"the platform to callbackd", enforce("192.0.2.0/24", "198.51.100.7"), []firewall.Listener{usage},
			[]string{"callbackd 192.0.2.0/24 28204-28204", "callbackd 198.51.100.7/32 28204-28204"}},
		{"both versions of IP, neighbouring ports", enforce("192.0.2.0/24", "2001:db8::/32"),
			[]firewall.Listener{usage, {Service: "DeviceService", Port: 28202}, {Service: "DeviceSuspensionStatus", Port: 28203}},
			[]string{"callbackd 192.0.2.0/24 28202-28204", "callbackd 2001:db8::/32 28202-28204"}},
		{"a port that is mapped: to what maps it as well", enforce("192.0.2.0/24"), []firewall.Listener{usage, carrier},
			[]string{"callbackd 192.0.2.0/24 28204-28204", "callbackd 192.0.2.0/24 8080-8080", "callbackd_front 192.0.2.0/24 443-443"}},
		{"a proxy to callbackd, the platform to the proxy", behind(auth.ProxyProtocol, "10.0.0.5"), []firewall.Listener{usage, carrier},
			[]string{"callbackd 10.0.0.5/32 28204-28204", "callbackd 10.0.0.5/32 8080-8080",
				"callbackd_front 192.0.2.0/24 28204-28204", "callbackd_front 192.0.2.0/24 443-443"}},
		{"a proxy on the same machine: the platform to it alone", behind(auth.XForwardedFor, "loopback"), []firewall.Listener{carrier},
			[]string{"callbackd_front 192.0.2.0/24 443-443"}},
		{"a listener on loopback: what is in front of it", enforce("192.0.2.0/24"), []firewall.Listener{local},
			[]string{"callbackd_front 192.0.2.0/24 28210-28210"}},
	} {
		for _, format := range []firewall.Format{firewall.AWS, firewall.GCP} {
			t.Run(c.name+"/"+string(format), func(t *testing.T) {
				t.Parallel()
				text, err := firewall.Render(format, firewall.Config{File: "c.yaml", Network: c.network, Listeners: c.listeners})
				if err != nil {
					t.Fatal(err)
				}
				if got := parse(t, text).admitted(t); !slices.Equal(got, c.want) {
					t.Errorf("admitted are\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(c.want, "\n"))
				}
			})
		}
	}
}
