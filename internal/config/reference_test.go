package config_test

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"callbackd/internal/config"
	"callbackd/internal/handler/builtin"

	"go.yaml.in/yaml/v3"
)

// TestTheReferenceIsTrue: deploy/callbackd.yaml loads, has every key, and where it says that it shows a default, shows it.
func TestTheReferenceIsTrue(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join("..", "..", "deploy", "callbackd.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, content := range keyPairs(t) {
		write(t, dir, name, content)
	}
	write(t, dir, "clients.crt", keyPairs(t)["a.crt"])
	write(t, dir, "callback.password", "a password\n")
	write(t, dir, "uws.password", "another\n")
	write(t, dir, "api.token", "0123456789abcdef0123456789abcdef\n")
	write(t, dir, "web-config.yml", "tls_server_config: {cert_file: a.crt, key_file: a.key}\n")
	c, problems := config.Parse("callbackd.yaml", dir, text, builtin.Types())
	for _, p := range problems {
		if p.Severity > config.Warning || !strings.Contains(p.String(), "thingspace holds the addresses") {
			t.Errorf("%s", p)
		}
	}
	if c == nil {
		t.FailNow()
	}
	d := config.Default()
	for name, pair := range map[string][2]any{
		"admin": {c.Admin.Listen, d.Admin.Listen}, "allow_anonymous": {c.AllowAnonymous, d.AllowAnonymous}, "ack": {c.Ack, d.Ack}, "limits": {c.Limits, d.Limits},
		"inbox": {c.Inbox, d.Inbox}, "heartbeat": {c.Heartbeat, d.Heartbeat}, "log": {c.Log, d.Log}, "shutdown": {c.Shutdown, d.Shutdown}, "platform": {c.Platform, d.Platform}, "registrations": {c.Registrations, d.Registrations},
		"delivery": {c.Handlers["events"].Delivery, c.Handlers["audit"].Delivery},
	} {
		if !reflect.DeepEqual(pair[0], pair[1]) {
			t.Errorf("%s is %+v in the reference, and %+v by default", name, pair[0], pair[1])
		}
	}
	alone, problems := config.Parse("callbackd.yaml", dir, []byte("data_dir: d\nallow_anonymous: true\nnetwork: {mode: observe}\nservices: {DeviceUsage: {}}\n"), nil)
	if alone == nil {
		t.Fatal(problems)
	}
	usage := *c.Services["DeviceUsage"]
	usage.TLS = nil
	if !reflect.DeepEqual(&usage, alone.Services["DeviceUsage"]) {
		t.Errorf("the service is %+v in the reference, and %+v by default", usage, alone.Services["DeviceUsage"])
	}
	var tree yaml.Node
	if err := yaml.Unmarshal(text, &tree); err != nil {
		t.Fatal(err)
	}
	shown := keys(&tree)
	for _, key := range yamlKeys(reflect.TypeFor[config.Config](), nil) {
		inComment := key == "password" || key == "uws_password_env" // password_file and uws_password_file are in their places
		if !inComment && !slices.Contains(shown, key) {
			t.Errorf("the reference does not show the key %s", key)
		}
	}
}

// keys lists the keys of all mappings beneath a node.
func keys(n *yaml.Node) (list []string) {
	for i, child := range n.Content {
		if n.Kind == yaml.MappingNode && i%2 == 0 {
			list = append(list, child.Value)
		}
		list = append(list, keys(child)...)
	}
	return list
}

// yamlKeys lists the keys that a type can have in a file, and those of all types within it.
func yamlKeys(t reflect.Type, seen []reflect.Type) (list []string) {
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Map:
		return yamlKeys(t.Elem(), seen)
	case reflect.Struct:
	default:
		return nil
	}
	if slices.Contains(seen, t) || t == reflect.TypeFor[time.Duration]() {
		return nil
	}
	for _, f := range reflect.VisibleFields(t) {
		key, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		if key == "" || key == "-" {
			continue
		}
		list = append(list, key)
		list = append(list, yamlKeys(f.Type, append(seen, t))...)
	}
	return list
}
