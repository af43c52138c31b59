package app_test

import (
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"

	"callbackd/internal/app"
	"callbackd/internal/callback"
	"callbackd/internal/config"
	"callbackd/internal/thingspace/platform"
)

// held is a socket as systemd passes it: a file of the given name. The listener stays with the test.
func held(t *testing.T, name string, l net.Listener) *os.File {
	t.Helper()
	file, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	connection, err := file.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var passed *os.File
	if err := connection.Control(func(fd uintptr) {
		var copied int
		if copied, err = syscall.Dup(int(fd)); err == nil {
			passed = os.NewFile(uintptr(copied), name)
		}
	}); err != nil || passed == nil {
		t.Fatal(err)
	}
	return passed
}

func buildOn(t *testing.T, c *config.Config, files ...*os.File) (*app.App, *buffer, error) {
	t.Helper()
	text := &buffer{}
	log, err := app.NewLogger(config.Log{Level: "debug", Format: "json"}, text)
	if err != nil {
		t.Fatal(err)
	}
	a, err := app.New(t.Context(), app.Options{Config: c, Log: log, Version: "test", Sockets: files})
	return a, text, err
}

// TestPassedSocketsAreUsed has two services share one that bears the name of the second, one bound by callbackd, and one for the admin
// listener. After the stop the passed ones still take connections.
func TestPassedSocketsAreUsed(t *testing.T) {
	t.Parallel()
	shared, admin := listen(t), listen(t)
	c := load(t, t.TempDir(), strings.Replace(head, "127.0.0.1:0", admin.Addr().String(), 1)+`services:
  CarrierService: {listen: "`+shared.Addr().String()+`", path: /carrier}
  DeviceUsage: {listen: "`+shared.Addr().String()+`", path: /usage}
  PromoChange: {listen: "127.0.0.1:0"}
`)
	a, log, err := buildOn(t, c, held(t, "DeviceUsage", shared), held(t, "admin", admin))
	if err != nil {
		t.Fatal(err)
	}
	stop := run(t, a)
	client := &platform.Client{HTTP: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}}
	for service, path := range map[callback.Service]string{callback.DeviceUsage: "/usage", callback.CarrierService: "/carrier", callback.PromoChange: "/"} {
		url := "http://" + a.Addresses().Services[service].String() + path
		answer, err := client.Post(t.Context(), url, platform.NewGenerator(1, credentials).Message(service))
		if err != nil || !answer.Acked() {
			t.Errorf("%s: %+v, %v", service, answer, err)
		}
	}
	if text := get(t, "http://"+admin.Addr().String()+"/livez"); !strings.Contains(text, "alive") {
		t.Errorf("/livez says %q", text)
	}
	if got, want := a.Addresses().Services[callback.CarrierService].String(), shared.Addr().String(); got != want {
		t.Errorf("the shared socket is on %s, want %s", got, want)
	}
	http.DefaultClient.CloseIdleConnections()
	if err := stop(); err != nil {
		t.Errorf("stop: %v", err)
	}
	if text := log.String(); !strings.Contains(text, `"sockets_of_systemd":["DeviceUsage","admin"]`) {
		t.Errorf("the log says\n%s", text)
	}
	for _, l := range []net.Listener{shared, admin} {
		waiting, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatalf("after the stop: %v", err)
		}
		_ = waiting.Close()
	}
}

func TestPassedSocketsThatDoNotFitAreTold(t *testing.T) {
	t.Parallel()
	l, other := listen(t), listen(t)
	on := func(address string) string { return head + "services:\n  DeviceUsage: {listen: \"" + address + "\"}\n" }
	file, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, text string
		file       *os.File
		err, log   string
	}{
		{"another address", on("127.0.0.1:28204"), held(t, "DeviceUsage", l), "callbackd.yaml:5: services.DeviceUsage.listen: systemd holds the socket DeviceUsage on " +
			l.Addr().String() + ", and the configuration says 127.0.0.1:28204", ""},
		{"a name that nothing has", on("127.0.0.1:0"), held(t, "DeviceUsges", other), "", `nobody is answered there`},
		{"no socket", on("127.0.0.1:0"), file, "is no socket to accept connections on", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			a, log, err := buildOn(t, load(t, t.TempDir(), tt.text), tt.file)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("error %v, want one with %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if err := run(t, a)(); err != nil {
				t.Errorf("stop: %v", err)
			}
			if text := log.String(); !strings.Contains(text, tt.log) || !strings.Contains(text, tt.file.Name()) {
				t.Errorf("the log says not %q:\n%s", tt.log, text)
			}
		})
	}
}

// TestEveryWayToWriteAllAddressesIsTheSame, as in ListenStream=28204 and listen: 0.0.0.0:28204.
func TestEveryWayToWriteAllAddressesIsTheSame(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	_, port, _ := net.SplitHostPort(l.Addr().String())
	c := load(t, t.TempDir(), head+"network: {mode: observe}\nservices: {DeviceUsage: {listen: \"0.0.0.0:"+port+"\"}}\n")
	a, _, err := buildOn(t, c, held(t, "DeviceUsage", l))
	if err != nil {
		t.Fatal(err)
	}
	if err := run(t, a)(); err != nil {
		t.Errorf("stop: %v", err)
	}
}
