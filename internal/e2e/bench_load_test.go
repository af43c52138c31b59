//go:build bench

package e2e_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"callbackd/internal/thingspace"

	"golang.org/x/sys/unix"
)

// requestIDMark stands where each request writes its own RequestId.
const requestIDMark = "00000000-0000-4000-8000-000000000000"

// benchMessage is a message of 1.9 KB, as one of usage is with the attributes of its plan and, as .NET writes them, its absent members.
func benchMessage() []byte {
	var data []byte
	for _, absent := range []string{"CarrierService", "ExternalProvisioningChange", "PromoChange"} {
		data = fmt.Appendf(data, "        <%s xsi:nil=\"true\"/>\n", absent)
	}
	data = append(data, "        <Usage>\n          <BytesUsed>1048576</BytesUsed>\n          <SmsUsed>12</SmsUsed>\n          <ServicePlan>M2M 5MB Share</ServicePlan>\n"+
		"          <Source>Raw Usage</Source>\n          <Timestamp>2017-03-15T00:00:00</Timestamp>\n          <ExtendedAttributes>\n"...)
	for n := range 4 {
		data = fmt.Appendf(data, "            <ExtendedAttribute>\n              <Key>Attribute%d</Key>\n              <Value>%d</Value>\n            </ExtendedAttribute>\n", n, n)
	}
	data = append(data, "          </ExtendedAttributes>\n        </Usage>\n"...)
	for _, absent := range []string{"SMSDelivery", "PRLInformation", "DeviceSuspendStatus", "Fault", "Comment", "Summary", "Status"} {
		data = fmt.Appendf(data, "        <%s xsi:nil=\"true\"/>\n", absent)
	}
	return fmt.Appendf(nil, `<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/">
  <s:Body xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xmlns:xsd="http://www.w3.org/2001/XMLSchema">
    <CallbackRequest xmlns="%s">
      <Username>%s</Username>
      <Password>%s</Password>
      <RequestId>%s</RequestId>
      <Device>
        <Kind>Mdn</Kind>
        <Identifier>3124705797</Identifier>
      </Device>
      <Data>
%s      </Data>
    </CallbackRequest>
  </s:Body>
</s:Envelope>
`, thingspace.Namespace, credentials.Username, credentials.Password, requestIDMark, data)
}

// load sends as fast as the answers come, over so many connections, and counts what was acknowledged.
func load(t *testing.T, s *benchServer, connections int) (result, int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), benchWarmUp+benchSpan)
	defer cancel()
	from := time.Now().Add(benchWarmUp)
	took := make([][]time.Duration, connections)
	total := make([]int, connections)
	var cpuFrom time.Duration
	var writtenFrom int64
	timer := time.AfterFunc(benchWarmUp, func() { cpuFrom, writtenFrom = s.cpu(), s.written() })
	defer timer.Stop()
	var senders sync.WaitGroup
	for n := range connections {
		senders.Go(func() {
			var err error
			if took[n], total[n], err = sendLoop(ctx, s.address, from); err != nil {
				t.Errorf("send: %v", err)
			}
		})
	}
	senders.Wait()
	cpu, written := s.cpu()-cpuFrom, s.written()-writtenFrom
	all := slices.Concat(took...)
	slices.Sort(all)
	acked := 0
	for _, n := range total {
		acked += n
	}
	if len(all) == 0 {
		return result{}, acked
	}
	return result{rate: float64(len(all)) / benchSpan.Seconds(), p50: all[len(all)/2], p99: all[len(all)*99/100], p999: all[len(all)*999/1000],
		cpu: float64(cpu.Microseconds()) / float64(len(all)), written: float64(written) / float64(len(all))}, acked
}

// openLoop sends at a rate, whatever becomes of the answers, and counts from when each was to be sent: a stall costs all that it holds up.
func openLoop(t *testing.T) result {
	t.Helper()
	const span = 10 * time.Second
	s := startServer(t, roleReceiver)
	turns := make(chan time.Time, span/time.Second*targetRate)
	took := make([][]time.Duration, targetClient)
	var senders sync.WaitGroup
	for n := range targetClient {
		senders.Go(func() {
			c, err := dialBench(s.address)
			if err != nil {
				t.Errorf("send: %v", err)
				return
			}
			defer c.conn.Close()
			for due := range turns {
				if err := c.post(); err != nil {
					t.Errorf("send: %v", err)
					return
				}
				took[n] = append(took[n], time.Since(due))
			}
		})
	}
	cpuFrom, writtenFrom, from := s.cpu(), s.written(), time.Now()
	for n := range int(span/time.Second) * targetRate {
		due := from.Add(time.Duration(n) * time.Second / targetRate)
		<-time.After(time.Until(due))
		turns <- due
	}
	close(turns)
	senders.Wait()
	elapsed, cpu, written := time.Since(from), s.cpu()-cpuFrom, s.written()-writtenFrom
	s.stop(t)
	all := slices.Sorted(slices.Values(slices.Concat(took...)))
	if stored := s.entries(t); stored < len(all) || len(all) == 0 {
		t.Fatalf("%d acknowledged and %d stored", len(all), stored)
	}
	return result{rate: float64(len(all)) / elapsed.Seconds(), p50: all[len(all)/2], p99: all[len(all)*99/100], p999: all[len(all)*999/1000],
		cpu: float64(cpu.Microseconds()) / float64(len(all)), written: float64(written) / float64(len(all))}
}

// benchDisk is how many messages a second a file takes that is only appended to, each durable before its publisher goes on, with one sync
// for all that wait: what a store can reach at most.
func benchDisk(t *testing.T, publishers int) (perSecond float64) {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	type publication struct{ durable chan struct{} }
	queue := make(chan publication, publishers)
	var writer sync.WaitGroup
	message := benchMessage()
	writer.Go(func() {
		var batch []publication
		for first := range queue {
			batch = append(batch[:0], first)
			for more := true; more && len(batch) < publishers; {
				select {
				case next, open := <-queue:
					if more = open; open {
						batch = append(batch, next)
					}
				default:
					more = false
				}
			}
			if _, err := f.Write(bytes.Repeat(message, len(batch))); err != nil {
				t.Error(err)
			}
			if err := unix.Fdatasync(int(f.Fd())); err != nil {
				t.Error(err)
			}
			for _, p := range batch {
				close(p.durable)
			}
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), benchSpan)
	defer cancel()
	var published atomic.Int64
	var senders sync.WaitGroup
	for range publishers {
		senders.Go(func() {
			for ctx.Err() == nil {
				p := publication{make(chan struct{})}
				queue <- p
				<-p.durable
				published.Add(1)
			}
		})
	}
	senders.Wait()
	close(queue)
	writer.Wait()
	return float64(published.Load()) / benchSpan.Seconds()
}

var benchSequence struct {
	sync.Mutex
	next int
}

// benchConn is one connection. It speaks just enough HTTP to cost little.
type benchConn struct {
	conn    net.Conn
	in      *bufio.Reader
	request []byte
	id      []byte // within it
	sender  int
	sent    int
}

func dialBench(address string) (*benchConn, error) {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	body := benchMessage()
	request := fmt.Appendf(nil, "POST / HTTP/1.1\r\nHost: bench\r\nContent-Type: text/xml; charset=utf-8\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	at := bytes.Index(request, []byte(requestIDMark))
	benchSequence.Lock()
	defer benchSequence.Unlock()
	benchSequence.next++
	return &benchConn{conn: conn, in: bufio.NewReader(conn), request: request, id: request[at : at+len(requestIDMark)], sender: benchSequence.next}, nil
}

// post sends a message that no other is like, and waits for its acknowledgement.
func (c *benchConn) post() error {
	copy(c.id, fmt.Sprintf("%08x-0000-4000-8000-%012x", c.sender, c.sent))
	c.sent++
	if _, err := c.conn.Write(c.request); err != nil {
		return err
	}
	status, err := readAnswer(c.in)
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("status %d", status)
	}
	return err
}

func sendLoop(ctx context.Context, address string, from time.Time) (took []time.Duration, acked int, err error) {
	c, err := dialBench(address)
	if err != nil {
		return nil, 0, err
	}
	defer c.conn.Close()
	for ctx.Err() == nil {
		began := time.Now()
		if err := c.post(); err != nil {
			return took, acked, err
		}
		acked++
		if !began.Before(from) {
			took = append(took, time.Since(began))
		}
	}
	return took, acked, nil
}

func readAnswer(in *bufio.Reader) (status int, err error) {
	length := 0
	for first := true; ; first = false {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return 0, err
		}
		switch {
		case first:
			if len(line) < 12 {
				return 0, errors.New("no HTTP answer")
			}
			status, _ = strconv.Atoi(string(line[9:12]))
		case len(line) == 2:
			_, err := in.Discard(length)
			return status, err
		case bytes.HasPrefix(line, []byte("Content-Length: ")):
			length, _ = strconv.Atoi(string(bytes.TrimSpace(line[16:])))
		}
	}
}
