package chart_test

import (
	"strings"
	"testing"
)

// TestRefused: values that make no sense are refused, with words that say what to do.
func TestRefused(t *testing.T) {
	tests := []struct{ name, values, want string }{
		{"two replicas", "replicas: 2", "at '/replicas': value must be 1"},
		{"no replica", "replicas: 0", "at '/replicas': value must be 1"},
		{"unknown value", "replicaCount: 1", "additional properties 'replicaCount' not allowed"},
		{"unknown value within", "persistence: {storageClass: fast}", "at '/persistence': additional properties 'storageClass' not allowed"},
		{"text for a number", `probes: {startup: {periodSeconds: "2"}}`, "at '/probes/startup/periodSeconds': got string, want integer"},
		{"text for a switch", `serviceMonitor: {enabled: "yes"}`, "at '/serviceMonitor/enabled': got string, want boolean"},
		{"mode", "network: {mode: open}", "at '/network/mode': value must be one of 'observe', 'enforce'"},
		{"nobody allowed", "network: {mode: enforce, allow: []}", "at '/network/allow': minItems: got 0, want 1"},
		{"nobody but loopback allowed", "{network: {mode: enforce, allow: [loopback]}, test: {enabled: false}}",
			"network.allow has nothing but loopback, from where nobody reaches a pod"},
		{"nobody but loopback in front", "network: {mode: enforce, allow: [thingspace], proxy: x-forwarded-for, trusted_proxies: [loopback]}",
			"network.trusted_proxies has nothing but loopback"},
		{"no address", "network: {mode: enforce, allow: [verizon]}",
			`network.allow: "verizon" is no address or CIDR, and none of the sets loopback, thingspace`},
		{"no address of a pod", "test: {podCIDRs: [pods]}", "test.podCIDRs: \"pods\" is no address or CIDR"},
		{"proxy without address", "network: {proxy: proxy-protocol}", "at '/network': missing property 'trusted_proxies'"},
		{"shared volume", "persistence: {accessMode: ReadWriteMany}", "at '/persistence/accessMode'"},
		{"data_dir", "config: {data_dir: /data}", "config.data_dir is for the chart to say: the volume is mounted there"},
		{"network in config", "config: {network: {mode: observe}}", "config.network is for the chart to say: write it as the value network"},
		{"admin.listen", `config: {admin: {listen: "0.0.0.0:9401"}}`, "config.admin.listen is for the chart to say"},
		{"password", "config: {credentials: [{label: main, username: u, password: p}]}", "config.credentials[0].password: a ConfigMap is no place for it"},
		{"service", "config: {services: {DeviceUse: {}}}", "config.services.DeviceUse: there is no such service: it is one of AlertService, "},
		{"loopback", `config: {services: {DeviceUsage: {listen: "127.0.0.1:28204"}}}`, "config.services.DeviceUsage.listen"},
		{"port 0", `config: {services: {DeviceUsage: {listen: "0.0.0.0:0"}}}`, "config.services.DeviceUsage.listen"},
		{"no port", `config: {services: {DeviceUsage: {listen: "0.0.0.0:70000"}}}`, `config.services.DeviceUsage.listen: port 70000: the last is 65535`},
		{"the admin listener's port", `config: {services: {DeviceUsage: {listen: "0.0.0.0:9400"}}}`,
			"config.services.DeviceUsage.listen: port 9400 is the admin listener's"},
		{"a list of services", "config: {services: [DeviceUsage]}", "at '/config/services': got array, want null or object"},
		{"credentials that are no list", "config: {credentials: {label: main}}", "at '/config/credentials': got object, want null or array"},
		{"handler", "config: {handlers: [audit]}", "at '/config/handlers': got array, want null or object"},
		{"name with a dot", "fullnameOverride: my.callbackd", "at '/fullnameOverride'"},
		{"name with a digit first", "nameOverride: 1callbackd", "at '/nameOverride'"},
		{"duration", "config: {shutdown: {drain: soon}}", `config.shutdown.drain: "soon" is not a duration`},
		{"test of a service that is not there", "{config: {services: {DeviceUsage: {}}}, test: {service: AlertService}}", "test.service"},
		{"test of TLS without URL", "config: {services: {DeviceUsage: {tls: {cert_file: /c, key_file: /k}}}}", "test.url: say the https URL of DeviceUsage"},
		// What the schema of the values leaves to Kubernetes is held against Kubernetes' own.
		{"unknown field of a volume", "extraVolumes: [{name: ca, configMaps: {name: ca}}]", "StatefulSet callbackd: "},
		{"unknown field of a peer", "networkPolicy: {monitoring: [{namespace: monitoring}]}", "NetworkPolicy callbackd: "},
		{"unknown field of an endpoint", "serviceMonitor: {enabled: true, endpoint: {every: 5s}}", "ServiceMonitor callbackd: "},
		{"resources", "resources: {limits: {memory: [1]}}", "StatefulSet callbackd: "},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			manifests, problem := check(t, chartDir, []byte(tt.values))
			if problem == "" {
				t.Fatalf("%s was taken, and made\n%s", tt.values, manifests)
			}
			if !strings.Contains(problem, tt.want) {
				t.Errorf("%s was refused with\n%s\nwant %q in it", tt.values, problem, tt.want)
			}
		})
	}
}
