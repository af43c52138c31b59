package presubmit_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"callbackd/internal/certificate/certificatetest"
	"callbackd/internal/counterpart"
)

const guidePath = "deploy/README.md"

// TestTheOperatorsGuide does what the operator's guide says, from the first to the last line, with the simulator in ThingSpace's place, a
// certificate of an authority that this test has the machine trust, and folders of its own for those of the system. It starts and stops the
// service itself where the guide has systemd do it. What a block "by hand" has is for a machine of one's own.
func TestTheOperatorsGuide(t *testing.T) {
	t.Parallel()
	for _, program := range []string{"sh", "sed", "openssl", "curl"} {
		counterpart.Program(t, program, "whether the procedures of the operator's guide work")
	}
	tr := checkout(t)
	g := newGuide(t, tr)
	document := elsewhere(t, g.here(tr.read(guidePath)), 50550)
	g.simulator = regexp.MustCompile(`(?m)^callbackd platform serve .*$`).FindString(document)
	g.platform = regexp.MustCompile(`(?m)^platform: .*$`).FindString(document)
	for _, b := range blocks(document) {
		ok := true
		switch b.info {
		case "yaml":
			b.text += g.platform + "\n"
			g.save(t, b)
		case "text":
			g.compare(t, b)
		case "sh":
			for line := range strings.Lines(b.text) {
				line = strings.TrimSpace(line)
				if action, found := strings.CutPrefix(line, "systemctl "); found {
					g.control(t, action) // what it starts outlives the line
					continue
				}
				ok = t.Run(line, func(t *testing.T) { g.run(t, line) }) && ok
			}
		}
		if !ok || t.Failed() {
			t.Fatalf("%s:%d: the guide ends here", guidePath, b.line)
		}
	}
	g.end(t)
}

// guide is a tour of the operator's guide.
type guide struct {
	*tour
	simulator string // how the guide starts it
	platform  string // how the configuration points to it
}

// newGuide prepares what the machine of an operator has before the guide begins.
func newGuide(t *testing.T, tr *tree) *guide {
	t.Helper()
	dir := t.TempDir()
	authority := certificatetest.New(t, "Authority")
	chain, key := authority.Issue(t, "127.0.0.1")
	write := func(name string, text []byte) {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, folder := range []string{"bin", "etc", "etc/secrets"} {
		if err := os.Mkdir(filepath.Join(dir, folder), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	write("root.crt", authority.PEM)
	write("etc/secrets/tls.crt", chain)
	write("etc/secrets/tls.key", key)
	write("device.xml", []byte(aboutADevice))
	w := &tour{dir: tr.root, document: guidePath}
	ctx, stop := context.WithTimeout(t.Context(), 5*time.Minute)
	defer stop()
	var out bytes.Buffer
	if err := w.command(ctx, "go build -o "+filepath.Join(dir, "bin", "callbackd")+" ./cmd/callbackd", &out).Run(); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	w.dir = dir
	w.env = append(os.Environ(), "PATH="+filepath.Join(dir, "bin")+":"+os.Getenv("PATH"), "SSL_CERT_FILE="+filepath.Join(dir, "root.crt"),
		"CALLBACKD_CONFIG="+filepath.Join(dir, "etc", "callbackd.yaml"))
	return &guide{tour: w}
}

// aboutADevice is a message about the device that the guide erases.
const aboutADevice = `<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body>
<CallbackRequest xmlns="http://nphase.com/unifiedwebservice/v2">
  <Username/><Password/><RequestId>7e892861-6f0c-44ad-a950-256d43929d24</RequestId>
  <Device><Kind>mdn</Kind><Identifier>5125550100</Identifier></Device>
  <Data><Usage><BytesUsed>1</BytesUsed></Usage></Data>
</CallbackRequest></s:Body></s:Envelope>`

// here writes the names of this machine in place of an operator's.
func (g *guide) here(document string) string {
	return strings.NewReplacer(
		"/run/credentials/callbackd.service/secret_", g.dir+"/etc/secrets/",
		"/etc/callbackd/", g.dir+"/etc/",
		"/var/lib/callbackd", g.dir+"/data",
		"/var/backups/callbackd", g.dir+"/backups",
		"callbacks.example.com", "127.0.0.1",
		"0.0.0.0:", "127.0.0.1:",
	).Replace(document)
}

// save writes a file that the guide shows, and names with its whole path.
func (g *guide) save(t *testing.T, b block) {
	t.Helper()
	name, err := filepath.Rel(g.dir, b.file())
	if err != nil {
		t.Fatalf("%s:%d: %v", guidePath, b.line, err)
	}
	b.before = "`" + name + "`"
	g.tour.save(t, b)
}

const serve = "callbackd serve"

// control does what systemd would.
func (g *guide) control(t *testing.T, action string) {
	t.Helper()
	switch action {
	case "start callbackd.service", "restart callbackd.service":
		if len(g.background) == 0 {
			g.start(t, block{text: g.simulator})
		}
		g.start(t, block{text: serve})
	case "stop callbackd.service":
		g.tour.run(t, "callbackd send --service CarrierService") // which no backup has
		g.background = slices.DeleteFunc(g.background, func(p *background) bool {
			if p.line == serve {
				p.end(t)
			}
			return p.line == serve
		})
	default:
		t.Fatalf("this test does not know how to `systemctl %s`", action)
	}
}

// run carries out a line of a block, and before it what others do meanwhile.
func (g *guide) run(t *testing.T, line string) {
	t.Helper()
	if first := g.meanwhile(line); first != "" {
		g.tour.run(t, first)
	}
	g.tour.run(t, line)
	t.Log(g.output)
}

// meanwhile is what the platform, or a device, has done when a line looks for it.
func (g *guide) meanwhile(line string) string {
	platform := "callbackd platform send --service DeviceUsage --count 3 --platform http://" + anyAddress.FindString(g.platform)
	switch {
	case line == "callbackd inbox list --test=false", strings.Contains(line, "callbackd_credential_matches_total"):
		return platform
	case strings.HasPrefix(line, "callbackd inbox list --device"):
		return "callbackd send --service DeviceUsage device.xml"
	}
	return ""
}

// handwork are the programs that only a machine of one's own has, or that change it.
var handwork = regexp.MustCompile(`^(certbot|sh|nft|install|systemctl|chown|cp|callbackd (firewall|platform serve|check|doctor|inbox restore|inbox release))\b`)

// operatorsGuide: every block of the guide is of a sort that a test carries out, or is for a machine of one's own; and what it links to is there.
func operatorsGuide(tr *tree, report func(string, ...any)) {
	text := tr.read(guidePath)
	for _, b := range blocks(text) {
		switch b.info {
		case "sh", "text", "yaml by hand":
		case "yaml":
			if b.file() == "" {
				report("%s:%d: the line before a yaml block names the file that it is, so that a test can save it", guidePath, b.line)
			}
		case "sh by hand":
			for line := range strings.Lines(b.text) {
				if !handwork.MatchString(line) {
					report("%s:%d: %q is not among what only an operator's machine can do: let a test carry it out", guidePath, b.line, strings.TrimSpace(line))
				}
			}
		default:
			report("%s:%d: no test carries out a block of %q", guidePath, b.line, b.info)
		}
	}
	for _, link := range regexp.MustCompile(`\]\(([^)#]*)(#[^)]*)?\)`).FindAllStringSubmatch(text, -1) {
		target, heading := filepath.Join(filepath.Dir(guidePath), link[1]), link[2]
		if link[1] == "" {
			target = guidePath
		}
		if !slices.Contains(tr.files, filepath.ToSlash(target)) {
			report("%s links to %s, which is not there", guidePath, link[1])
		} else if heading != "" && !slices.Contains(headings(tr.read(filepath.ToSlash(target))), heading) {
			report("%s links to %s%s, and there is no such heading", guidePath, link[1], heading)
		}
	}
}

// headings are those of a document, as links name them.
func headings(document string) (list []string) {
	for _, m := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(document, -1) {
		kept := regexp.MustCompile(`[^a-z0-9 -]`).ReplaceAllString(strings.ToLower(m[1]), "")
		list = append(list, "#"+strings.ReplaceAll(kept, " ", "-"))
	}
	return list
}
