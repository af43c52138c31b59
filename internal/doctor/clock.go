package doctor

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"golang.org/x/sys/unix"
)

const keepClock = "have the clock set by chrony or systemd-timesyncd: `timedatectl` shows whether one does"

// clock: certificates, retention and the times of entries rest on it.
func (p *patient) clock(ctx context.Context) []Finding {
	var kernel unix.Timex
	state, err := unix.Adjtimex(&kernel)
	findings := []Finding{synchronised(state, kernel.Status, err)}
	if p.Platform && !p.Offline {
		findings = append(findings, p.compareClock(ctx, p.c.Platform.URL))
	}
	return findings
}

func synchronised(state int, status int32, err error) Finding {
	const timeError, unsynchronised = 5, 0x40 // TIME_ERROR, STA_UNSYNC of adjtimex(2)
	switch {
	case err != nil:
		return Finding{Level: Skipped, Found: "the kernel does not tell whether it is synchronised: " + err.Error(), Advice: "compare `date -u` with another clock"}
	case state == timeError, status&unsynchronised != 0:
		return Finding{Level: Warn, Found: "the kernel says that nothing synchronises the clock", Advice: keepClock + ". In a container or virtual machine it is the host's"}
	}
	return Finding{Level: OK, Found: "synchronised, says the kernel"}
}

// compareClock compares with the Date of an answer, which has whole seconds.
func (p *patient) compareClock(ctx context.Context, of string) Finding {
	const slight, much = 5 * time.Second, time.Minute
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodHead, of, nil)
	if err != nil {
		return Finding{Subject: of, Level: Skipped, Found: err.Error()}
	}
	before := p.Now()
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		return Finding{Subject: of, Level: Skipped, Found: "its clock cannot be asked: " + err.Error()}
	}
	_ = response.Body.Close()
	after := p.Now()
	date, err := http.ParseTime(response.Header.Get("Date"))
	if err != nil {
		return Finding{Subject: of, Level: Skipped, Found: "it does not tell its time"}
	}
	var off time.Duration
	switch {
	case date.Add(time.Second).Before(before):
		off = before.Sub(date)
	case date.After(after):
		off = date.Sub(after)
	}
	found := fmt.Sprintf("%s from the Date that it answers with", off.Round(time.Second))
	switch {
	case off > much:
		return Finding{Subject: of, Level: Fail, Found: found, Advice: keepClock}
	case off > slight:
		return Finding{Subject: of, Level: Warn, Found: found, Advice: keepClock}
	}
	return Finding{Subject: of, Level: OK, Found: "the same as the Date that it answers with"}
}
