package e2e_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"callbackd/internal/callback"
	"callbackd/internal/thingspace/platform"
)

// TestWithoutFileDescriptorsOpenConnectionsAreServed runs the program where few files may be open, and uses them up with connections: those
// that were open are served, inbox and handler included, it is counted and told without a flood or a busy loop, and afterwards all is as before.
func TestWithoutFileDescriptorsOpenConnectionsAreServed(t *testing.T) {
	const files = 80
	r := newCrashReceiver(t)
	r.command = func() *exec.Cmd {
		return exec.Command("sh", "-c", fmt.Sprintf("ulimit -n %d; exec %s serve --config %s", files, r.program, r.config))
	}
	r.start()
	g := platform.NewGenerator(1, credentials)
	kept := platform.Client{HTTP: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 1}}}
	defer kept.HTTP.CloseIdleConnections()
	posted := 0
	post := func() {
		t.Helper()
		answer, err := kept.Post(t.Context(), r.url, g.Message(callback.DeviceUsage))
		if err != nil || !answer.Acked() {
			t.Fatalf("post %d on a connection that was open: %+v, %v", posted, answer, err)
		}
		posted++
	}
	operator := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 1}}
	defer operator.CloseIdleConnections()
	post()
	page(t, operator, r.admin+"/metrics")

	var flood []net.Conn
	defer func() {
		for _, c := range flood {
			_ = c.Close() // again, perhaps
		}
	}()
	for range files {
		c, err := net.Dial("tcp", strings.Trim(strings.TrimPrefix(r.url, "http://"), "/"))
		if err != nil {
			t.Fatal(err)
		}
		flood = append(flood, c)
	}
	failures := func() int {
		return value(t, page(t, operator, r.admin+"/metrics"), `callbackd_accept_errors_total{service="DeviceUsage"}`)
	}
	until(t, "accepting fails", func() bool { return failures() > 0 })
	from, before := time.Now(), failures()
	until(t, "it has failed several times", func() bool { post(); return failures() >= before+4 })
	if n, took := failures()-before, time.Since(from); float64(n) > 10+took.Seconds()*5 {
		t.Errorf("it was tried %d times in %s", n, took)
	}
	if status := page(t, operator, r.admin+"/readyz"); !strings.Contains(status, "inbox: ok") {
		t.Errorf("/readyz says\n%s", status)
	}
	for _, c := range flood {
		_ = c.Close()
	}
	until(t, "new connections are accepted", func() bool {
		fresh := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second}
		answer, err := (&platform.Client{HTTP: fresh}).Post(t.Context(), r.url, g.Message(callback.DeviceUsage))
		if err != nil || !answer.Acked() {
			return false
		}
		posted++
		return true
	})
	until(t, "everything is handled", func() bool {
		return value(t, page(t, operator, r.admin+"/metrics"), `callbackd_delivery_attempts_total{handler="events",reason="",verdict="done"}`) >= posted
	})
	operator.CloseIdleConnections()
	kept.HTTP.CloseIdleConnections()
	r.terminate()
	log, err := os.ReadFile(r.log)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(log), "too many open files"); n == 0 || n > 20 {
		t.Errorf("that files have run out is told %d times:\n%s", n, log)
	}
	if !strings.Contains(string(log), "fewer files may be open than there may be connections") {
		t.Errorf("the limit is not told at start:\n%s", log)
	}
}

func page(t *testing.T, client *http.Client, url string) string {
	t.Helper()
	answer, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// value is that of a series on a page of metrics.
func value(t *testing.T, page, series string) int {
	t.Helper()
	m := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(series) + ` (\S+)$`).FindStringSubmatch(page)
	if m == nil {
		t.Fatalf("no %s on\n%s", series, page)
	}
	n, err := strconv.ParseFloat(m[1], 64)
	if err != nil {
		t.Fatal(err)
	}
	return int(n)
}
