package platform_test

import (
	"encoding/xml"
	"io"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"callbackd/internal/callback"
	"callbackd/internal/counterpart"
	"callbackd/internal/thingspace/platform"
)

// TestSOAPClientsRegisterByTheWSDL: clients that know nothing but where the services are log in, register, and log out.
func TestSOAPClientsRegisterByTheWSDL(t *testing.T) {
	t.Parallel()
	for name, command := range map[string]func(*testing.T) *exec.Cmd{
		"zeep": func(t *testing.T) *exec.Cmd {
			// The system's Python, for that is the one that the system's package python3-zeep belongs to.
			const what = "whether Python's zeep can register by the simulator's WSDLs"
			python := counterpart.Program(t, "/usr/bin/python3", what)
			if exec.CommandContext(t.Context(), python, "-c", "import zeep").Run() != nil {
				counterpart.Missing(t, "python3-zeep", what)
			}
			return exec.CommandContext(t.Context(), python, "testdata/interop/zeep_client.py")
		},
		"PHP SoapClient": func(t *testing.T) *exec.Cmd {
			const what = "whether PHP's SoapClient can register by the simulator's WSDLs"
			php := counterpart.Program(t, "php", what)
			if exec.CommandContext(t.Context(), php, "-r", "exit(class_exists('SoapClient') ? 0 : 1);").Run() != nil {
				counterpart.Missing(t, "php-soap", what)
			}
			return exec.CommandContext(t.Context(), php, "testdata/interop/php_client.php")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client := command(t)
			in, _ := serve(t)
			const url = "http://127.0.0.1:1/?a=1&b=<2>"
			client.Args = append(client.Args, in.url+"/api/v2", login.Username, login.Password, account, url)
			client.WaitDelay = 5 * time.Second
			said, err := client.CombinedOutput()
			if err != nil || !strings.Contains(string(said), registrationService+"."+invalid) {
				t.Fatalf("%v\n%s", err, said)
			}
			want := []platform.Registration{{Account: account, Service: callback.EnhancedConnectivityService, URL: url,
				Credentials: platform.Credentials{Password: "p"}}}
			if got := in.Registrations(); !slices.Equal(got, want) {
				t.Errorf("registered %v, want %v", got, want)
			}
		})
	}
}

// TestWSDLsNameWhereTheyAre: the address that the client used, and schemas that are there.
func TestWSDLsNameWhereTheyAre(t *testing.T) {
	t.Parallel()
	in := simulate(t)
	fetch := func(path, host string) string {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, in.url+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Host = host
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		if err != nil || response.StatusCode != http.StatusOK || !strings.HasPrefix(response.Header.Get("Content-Type"), "text/xml") {
			t.Errorf("%s: %s, %v", path, response.Status, err)
		}
		return string(body)
	}
	for _, name := range []string{sessionService, registrationService, connectivityService} {
		for _, query := range []string{"wsdl", "WSDL"} {
			var d struct {
				Address struct {
					Location string `xml:"location,attr"`
				} `xml:"service>port>address"`
				Import struct {
					Location string `xml:"schemaLocation,attr"`
				} `xml:"types>schema>import"`
			}
			if err := xml.Unmarshal([]byte(fetch("/api/v2/"+name+".svc?"+query, "simulator:28300")), &d); err != nil {
				t.Fatal(err)
			}
			if want := "http://simulator:28300/api/v2/" + name + ".svc"; d.Address.Location != want {
				t.Errorf("%s is at %s, want %s", name, d.Address.Location, want)
			}
			schema := strings.TrimPrefix(d.Import.Location, "..")
			for text := fetch("/api"+schema, "x"); ; {
				_, rest, found := strings.Cut(text, `schemaLocation="`)
				if !found {
					break
				}
				referred, rest, _ := strings.Cut(rest, `"`)
				fetch("/api/schemas/"+referred, "x")
				text = rest
			}
		}
	}
	response, err := http.Get(in.url + "/api/schemas/none.xsd")
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	if response.StatusCode != http.StatusNotFound {
		t.Errorf("a schema that is not there: %s", response.Status)
	}
}
