package chart_test

import (
	"bytes"
	"encoding/json"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"callbackd/internal/auth"
	"callbackd/internal/certificate/certificatetest"
	"callbackd/internal/config"
	"callbackd/internal/handler/builtin"

	"go.yaml.in/yaml/v3"
)

// rendered is what the chart makes of one file of values.
type rendered struct {
	name    string
	objects []object
	notes   string
	config  *config.Config
	pod     podSpec
	service serviceSpec
}

type serviceSpec struct {
	Type                     string
	ExternalTrafficPolicy    string   `yaml:"externalTrafficPolicy"`
	LoadBalancerSourceRanges []string `yaml:"loadBalancerSourceRanges"`
	ClusterIP                string   `yaml:"clusterIP"`
	Selector                 map[string]string
	Ports                    []struct {
		Name       string
		Port       int
		TargetPort string `yaml:"targetPort"`
	}
}

type statefulSetSpec struct {
	Replicas    int
	ServiceName string `yaml:"serviceName"`
	Selector    selector
	Template    struct {
		Metadata struct{ Labels map[string]string }
		Spec     podSpec
	}
	VolumeClaimTemplates []object `yaml:"volumeClaimTemplates"`
}

type selector struct {
	MatchLabels map[string]string `yaml:"matchLabels"`
}

type podSpec struct {
	AutomountServiceAccountToken  *bool `yaml:"automountServiceAccountToken"`
	TerminationGracePeriodSeconds int   `yaml:"terminationGracePeriodSeconds"`
	SecurityContext               struct {
		RunAsNonRoot   bool                  `yaml:"runAsNonRoot"`
		RunAsUser      int                   `yaml:"runAsUser"`
		SeccompProfile struct{ Type string } `yaml:"seccompProfile"`
		Sysctls        []struct{ Name string }
	} `yaml:"securityContext"`
	Containers []container
	Volumes    []map[string]yaml.Node
}

type container struct {
	Args  []string
	Ports []struct {
		Name          string
		ContainerPort int `yaml:"containerPort"`
	}
	StartupProbe    probe `yaml:"startupProbe"`
	LivenessProbe   probe `yaml:"livenessProbe"`
	ReadinessProbe  probe `yaml:"readinessProbe"`
	SecurityContext struct {
		AllowPrivilegeEscalation *bool `yaml:"allowPrivilegeEscalation"`
		ReadOnlyRootFilesystem   bool  `yaml:"readOnlyRootFilesystem"`
		Capabilities             struct{ Drop []string }
	} `yaml:"securityContext"`
	VolumeMounts []struct {
		Name      string
		MountPath string `yaml:"mountPath"`
		SubPath   string `yaml:"subPath"`
	} `yaml:"volumeMounts"`
}

type probe struct {
	HTTPGet struct{ Path, Port, Scheme string } `yaml:"httpGet"`
}

type networkPolicySpec struct {
	PodSelector selector `yaml:"podSelector"`
	Ingress     []struct {
		Ports []struct{ Port int }
		From  []struct {
			IPBlock           struct{ CIDR string } `yaml:"ipBlock"`
			NamespaceSelector *selector             `yaml:"namespaceSelector"`
			PodSelector       *selector             `yaml:"podSelector"`
		}
	}
}

// TestChart: every file of values makes manifests that lint, kubeconform and callbackd itself have nothing to say about, and that agree
// with one another.
func TestChart(t *testing.T) {
	t.Parallel()
	aspects := []struct {
		name string
		look func(*testing.T, *rendered)
	}{
		{"one replica", oneReplica}, {"optional parts", optional}, {"ports", ports}, {"allow list", allowed}, {"restricted", restricted},
		{"grace", grace}, {"test sends", sends}, {"probes", probes}, {"monitoring", monitoring},
	}
	files, err := filepath.Glob("testdata/values/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no values: %v", err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".yaml")
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := render(t, name, read(t, file))
			for _, a := range aspects {
				t.Run(a.name, func(t *testing.T) { a.look(t, r) })
			}
		})
	}
}

func render(t *testing.T, name string, values []byte) *rendered {
	t.Helper()
	manifests, problem := check(t, chartDir, values)
	if problem != "" {
		t.Fatalf("the chart does not take %s:\n%s", name, problem)
	}
	r := &rendered{name: name, objects: objects(t, manifests)}
	_, r.notes, _ = strings.Cut(manifests, "# NOTES.txt\n")
	set := decode[statefulSetSpec](t, only(t, r.objects, "StatefulSet", ""))
	r.pod = set.Template.Spec
	for _, o := range r.objects {
		if s := decodeService(t, o); o.Kind == "Service" && s.ClusterIP != "None" {
			r.service = s
		}
	}
	r.config = load(t, r)
	return r
}

// TestLongName: parts keep names of their own, however long that of the release is.
func TestLongName(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("long", 20)
	r := render(t, "long", []byte("{fullnameOverride: "+long+", dashboards: {enabled: true}, prometheusRule: {enabled: true}, serviceMonitor: {enabled: true}}"))
	seen := make(map[string]bool)
	for _, o := range r.objects {
		name := o.Kind + " " + o.Metadata.Name
		if seen[name] {
			t.Errorf("there are two of %s", name)
		}
		seen[name] = true
	}
}

func decodeService(t *testing.T, o object) (s serviceSpec) {
	t.Helper()
	if o.Kind == "Service" {
		s = decode[serviceSpec](t, o)
	}
	return s
}

// load has callbackd read its configuration, with the Secrets that it names. Warnings there may be, as for a list that was published for
// another sender.
func load(t *testing.T, r *rendered) *config.Config {
	t.Helper()
	root := t.TempDir()
	var text string
	for _, o := range r.objects {
		if o.Kind == "ConfigMap" && o.Data["callbackd.yaml"] != "" {
			text = o.Data["callbackd.yaml"]
		}
	}
	for _, folder := range []string{"/etc/callbackd", "/var/lib/callbackd"} {
		if err := os.MkdirAll(root+folder, 0o700); err != nil {
			t.Fatal(err)
		}
		text = strings.ReplaceAll(text, folder, root+folder)
	}
	for _, m := range r.pod.Containers[0].VolumeMounts {
		if folder, ok := strings.CutPrefix(m.MountPath, "/etc/callbackd/secrets/"); ok {
			secret(t, filepath.Join(root, "/etc/callbackd/secrets", folder))
		}
	}
	file := filepath.Join(root, "callbackd.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, problems, err := config.Load(file, builtin.Types())
	if err != nil {
		t.Fatalf("callbackd does not take its configuration: %v\n%v\n%s", err, problems, text)
	}
	return c
}

// secret writes what the Secrets of the values hold.
func secret(t *testing.T, dir string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	cert, key := certificatetest.New(t, "Test Authority").Issue(t, "callbacks.example.com")
	for name, text := range map[string][]byte{
		"password": []byte("a-password"), "next": []byte("another-password"), "token": bytes.Repeat([]byte("t"), 32), "tls.crt": cert, "tls.key": key,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o440); err != nil {
			t.Fatal(err)
		}
	}
}

// oneReplica: one pod with one volume, found by its Services and its budget.
func oneReplica(t *testing.T, r *rendered) {
	set := decode[statefulSetSpec](t, only(t, r.objects, "StatefulSet", ""))
	if set.Replicas != 1 {
		t.Errorf("%d replicas", set.Replicas)
	}
	for key, value := range set.Selector.MatchLabels {
		if set.Template.Metadata.Labels[key] != value || r.service.Selector[key] != value {
			t.Errorf("the selector %s=%s is not on the pod, or not on the Service", key, value)
		}
	}
	governing := decode[serviceSpec](t, only(t, r.objects, "Service", set.ServiceName))
	if governing.ClusterIP != "None" || governing.Ports[0].TargetPort != "admin" {
		t.Errorf("the StatefulSet's Service is %+v", governing)
	}
	for _, o := range r.objects {
		if o.Kind == "PodDisruptionBudget" {
			budget := decode[struct {
				MaxUnavailable int `yaml:"maxUnavailable"`
			}](t, o)
			if budget.MaxUnavailable != 1 {
				t.Errorf("the budget lets %d pods be away: nodes could not be drained", budget.MaxUnavailable)
			}
		}
	}
}

// optional: what can be left out is there when it is asked for, and not when it is not.
func optional(t *testing.T, r *rendered) {
	want := map[string]map[string]bool{
		"defaults":    {"PodDisruptionBudget": true, "NetworkPolicy": true, "ServiceAccount": true, "Pod": true},
		"everything":  {"PodDisruptionBudget": true, "NetworkPolicy": true, "ServiceAccount": true, "Pod": true, "ServiceMonitor": true, "PrometheusRule": true},
		"proxy":       {"PodDisruptionBudget": true, "NetworkPolicy": true, "ServiceAccount": true},
		"bare":        {},
		"observe-tls": {"PodDisruptionBudget": true, "NetworkPolicy": true, "ServiceAccount": true, "Pod": true, "ServiceMonitor": true},
	}
	for _, kind := range []string{"PodDisruptionBudget", "NetworkPolicy", "ServiceAccount", "Pod", "ServiceMonitor", "PrometheusRule"} {
		if has(r.objects, kind) != want[r.name][kind] {
			t.Errorf("%s: %t, want %t", kind, has(r.objects, kind), want[r.name][kind])
		}
	}
}

// ports: a port that callbackd listens on is one of the container's, of the Service's and of the NetworkPolicy's, and no other is.
func ports(t *testing.T, r *rendered) {
	var want, container, service []int
	for _, s := range r.config.Services {
		want = append(want, int(netip.MustParseAddrPort(s.Listen).Port()))
	}
	slices.Sort(want)
	want = slices.Compact(want)
	names := make(map[string]int)
	for _, p := range r.pod.Containers[0].Ports {
		if names[p.Name] = p.ContainerPort; p.Name != "admin" {
			container = append(container, p.ContainerPort)
		}
	}
	for _, p := range r.service.Ports {
		if service = append(service, p.Port); names[p.TargetPort] != p.Port {
			t.Errorf("port %d of the Service leads to %s, which is %d", p.Port, p.TargetPort, names[p.TargetPort])
		}
	}
	slices.Sort(container)
	slices.Sort(service)
	if !slices.Equal(container, want) || !slices.Equal(service, want) {
		t.Errorf("callbackd listens on %d; the container has %d, the Service %d", want, container, service)
	}
	if admin := netip.MustParseAddrPort(r.config.Admin.Listen); !admin.Addr().IsUnspecified() || names["admin"] != int(admin.Port()) {
		t.Errorf("callbackd's admin listener is %s, the container's port %d", admin, names["admin"])
	}
	if low := want[0] < 1024; low != (len(r.pod.SecurityContext.Sysctls) > 0) {
		t.Errorf("ports from %d on, and sysctls %v", want[0], r.pod.SecurityContext.Sysctls)
	}
	if !has(r.objects, "NetworkPolicy") {
		return
	}
	policy := decode[networkPolicySpec](t, only(t, r.objects, "NetworkPolicy", ""))
	var admitted []int
	for _, p := range policy.Ingress[0].Ports {
		admitted = append(admitted, p.Port)
	}
	slices.Sort(admitted)
	if !slices.Equal(admitted, want) {
		t.Errorf("callbackd listens on %d; the NetworkPolicy admits to %d", want, admitted)
	}
	operators := policy.Ingress[1]
	if len(operators.Ports) != 1 || operators.Ports[0].Port != names["admin"] || len(operators.From) == 0 || operators.From[0].NamespaceSelector == nil {
		t.Errorf("the NetworkPolicy admits %+v to the admin listener", operators)
	}
}

// allowed: the one allow list is in callbackd's gate, at the load balancer and in the NetworkPolicy, or in none of them.
func allowed(t *testing.T, r *rendered) {
	allow, trusted := prefixes(t, r.config.Network.Allow), prefixes(t, r.config.Network.TrustedProxies)
	if r.name == "everything" { // the pods that test are for callbackd's own gate alone
		allow = slices.DeleteFunc(allow, func(s string) bool { return s == "10.244.0.0/16" })
	}
	external := r.service.Type != "ClusterIP"
	if external != (r.service.ExternalTrafficPolicy == "Local") {
		t.Errorf("externalTrafficPolicy of a %s is %q", r.service.Type, r.service.ExternalTrafficPolicy)
	}
	enforced := r.config.Network.Mode == auth.Enforce
	if want := map[bool][]string{true: allow}[enforced && r.service.Type == "LoadBalancer"]; !slices.Equal(sorted(r.service.LoadBalancerSourceRanges), want) {
		t.Errorf("the load balancer admits %v, want %v", r.service.LoadBalancerSourceRanges, want)
	}
	if !has(r.objects, "NetworkPolicy") {
		return
	}
	var admitted []string
	for _, from := range decode[networkPolicySpec](t, only(t, r.objects, "NetworkPolicy", "")).Ingress[0].From {
		if from.IPBlock.CIDR != "" {
			admitted = append(admitted, from.IPBlock.CIDR)
		}
	}
	want := allow
	if r.config.Network.Proxy != auth.Direct {
		want = trusted
	}
	if !enforced {
		want = nil
	}
	if !slices.Equal(sorted(admitted), want) {
		t.Errorf("the NetworkPolicy admits %v, want %v", admitted, want)
	}
}

// prefixes are those of a list as callbackd reads it, without loopback, sorted.
func prefixes(t *testing.T, entries []string) (list []string) {
	t.Helper()
	for _, entry := range entries {
		read, err := auth.ReadEntry(entry)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range read {
			if !p.Addr().IsLoopback() {
				list = append(list, p.String())
			}
		}
	}
	return slices.Compact(sorted(list))
}

func sorted(list []string) []string { return slices.Sorted(slices.Values(list)) }

// restricted: the pods keep to the restricted Pod Security Standard, and have neither a token nor a root that can be written to.
func restricted(t *testing.T, r *rendered) {
	pods := map[string]podSpec{"callbackd": r.pod}
	if has(r.objects, "Pod") {
		pods["test"] = decode[podSpec](t, only(t, r.objects, "Pod", "-test"))
	}
	for _, name := range slices.Sorted(maps.Keys(pods)) {
		pod := pods[name]
		if s := pod.SecurityContext; !s.RunAsNonRoot || s.SeccompProfile.Type != "RuntimeDefault" || (s.RunAsUser == 0) != (r.name == "bare") {
			t.Errorf("%s: security context of the pod %+v", name, s)
		}
		if pod.AutomountServiceAccountToken == nil || *pod.AutomountServiceAccountToken {
			t.Errorf("%s: the pod has a token of its service account", name)
		}
		for _, s := range pod.Sysctls() {
			if s != "net.ipv4.ip_unprivileged_port_start" { // the standard takes this one
				t.Errorf("%s: sysctl %s", name, s)
			}
		}
		for _, c := range pod.Containers {
			s := c.SecurityContext
			if s.AllowPrivilegeEscalation == nil || *s.AllowPrivilegeEscalation || !s.ReadOnlyRootFilesystem || !slices.Equal(s.Capabilities.Drop, []string{"ALL"}) {
				t.Errorf("%s: security context of a container %+v", name, s)
			}
			for _, m := range c.VolumeMounts {
				if m.SubPath != "" {
					t.Errorf("%s: %s is a subPath, which is never updated", name, m.MountPath)
				}
			}
		}
		for _, volume := range pod.Volumes {
			if _, host := volume["hostPath"]; host {
				t.Errorf("%s: a volume of the host", name)
			}
		}
	}
}

// Sysctls are the names of those that the pod sets.
func (p podSpec) Sysctls() (names []string) {
	for _, s := range p.SecurityContext.Sysctls {
		names = append(names, s.Name)
	}
	return names
}

// grace: the kubelet waits longer than callbackd takes to stop, and callbackd longer than the platform for an answer.
func grace(t *testing.T, r *rendered) {
	const (
		platform = 4 * time.Second  // it waits as long
		margins  = 55 * time.Second // what package app gives the steps beyond what they are told: 8 times 5 s, and 15 s to close a handler
	)
	s := r.config.Shutdown
	if grace, least := time.Duration(r.pod.TerminationGracePeriodSeconds)*time.Second, s.LameDuck+s.Drain+s.Grace+margins; grace <= least {
		t.Errorf("the pod is killed after %s, and may take %s to stop", grace, least)
	}
	if s.LameDuck <= platform || s.Drain <= platform {
		t.Errorf("lame duck %s and drain %s: the platform waits for %s", s.LameDuck, s.Drain, platform)
	}
}

// sends: the test's pod sends to a port of the Service, or to the public URL.
func sends(t *testing.T, r *rendered) {
	want := map[string]string{
		"defaults":    "send --service AlertService --url http://callbackd.iot.svc:28210/",
		"everything":  "send --service CarrierService --url http://thingspace-receiver.iot.svc:9001/carrier",
		"observe-tls": "send --service DeviceUsage",
	}
	var got string
	if has(r.objects, "Pod") {
		pod := only(t, r.objects, "Pod", "-test")
		if got = strings.Join(decode[podSpec](t, pod).Containers[0].Args, " "); pod.Metadata.Annotations["helm.sh/hook"] != "test" {
			t.Error("the pod is no hook")
		}
	}
	if got != want[r.name] {
		t.Errorf("the test runs %q, want %q", got, want[r.name])
	}
	if noted := strings.Contains(r.notes, "helm -n iot test callbackd"); noted != (got != "") {
		t.Errorf("the notes tell of the test: %t", noted)
	}
}

// monitoring: what the Prometheus operator and Grafana get is what deploy/prometheus and deploy/grafana hold.
func monitoring(t *testing.T, r *rendered) {
	if has(r.objects, "PrometheusRule") {
		rule := decode[struct{ Groups []any }](t, only(t, r.objects, "PrometheusRule", ""))
		var want []any
		for _, text := range copies(t, deploy+"/prometheus", "prometheus", ".yaml", isRules) {
			var file struct{ Groups []any }
			if err := yaml.Unmarshal(bytes.ReplaceAll(text, []byte("deploy/runbooks/"), []byte("https://git.example.com/callbackd/deploy/runbooks/")), &file); err != nil {
				t.Fatal(err)
			}
			want = append(want, file.Groups...)
		}
		if got := sortedJSON(t, rule.Groups); !slices.Equal(got, sortedJSON(t, want)) {
			t.Errorf("the PrometheusRule has the groups\n%s\nwant\n%s", got, sortedJSON(t, want))
		}
	}
	if has(r.objects, "ServiceMonitor") {
		type endpoint struct {
			Port, Path  string
			HonorLabels bool `yaml:"honorLabels"`
			Relabelings []struct {
				TargetLabel string `yaml:"targetLabel"`
				Replacement string
			}
		}
		m := decode[struct {
			Selector  selector
			Endpoints []endpoint
		}](t, only(t, r.objects, "ServiceMonitor", ""))
		for key, value := range m.Selector.MatchLabels {
			if only(t, r.objects, "Service", "-admin").Metadata.Labels[key] != value {
				t.Errorf("the ServiceMonitor selects by %s=%s, which the admin Service has not", key, value)
			}
		}
		e := m.Endpoints[0]
		if e.Port != "admin" || e.Path != "/metrics" || !e.HonorLabels || e.Relabelings[0].TargetLabel != "job" || e.Relabelings[0].Replacement != "callbackd" {
			t.Errorf("the rules want the job callbackd and honored labels; the ServiceMonitor has %+v", e)
		}
	}
	if r.name != "everything" {
		return
	}
	for name, want := range copies(t, deploy+"/grafana", "grafana", ".json", func([]byte) bool { return true }) {
		name = filepath.Base(name)
		got := only(t, r.objects, "ConfigMap", "-"+strings.TrimSuffix(name, ".json"))
		if strings.TrimSpace(got.Data[name]) != strings.TrimSpace(string(want)) || got.Metadata.Labels["grafana_dashboard"] != "1" {
			t.Errorf("the dashboard %s is not that of deploy/grafana, or has no label for the sidecar", name)
		}
	}
}

// sortedJSON makes lists comparable whose order does not matter.
func sortedJSON(t *testing.T, list []any) (texts []string) {
	t.Helper()
	for _, v := range list {
		text, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		texts = append(texts, string(text))
	}
	return sorted(texts)
}

// TestNumbers: numbers of the configuration arrive as they were written.
func TestNumbers(t *testing.T) {
	t.Parallel()
	r := render(t, "everything", read(t, "testdata/values/everything.yaml"))
	if got := r.config.Handlers["events"].Delivery.MaxAttempts; got != 5_000_000 {
		t.Errorf("max_attempts is %d", got)
	}
	if got := r.config.Limits.Connections; got != 2_000_000 {
		t.Errorf("connections is %d", got)
	}
}
