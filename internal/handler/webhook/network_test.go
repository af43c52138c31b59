package webhook_test

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"callbackd/internal/handler"
)

// patience is how long what should come at once may take on a busy machine.
const patience = 10 * time.Second

// listen starts a server that is not HTTP's: each connection is a function's to deal with, once the request is read.
func listen(t *testing.T, deal func(conn *net.TCPConn, r *http.Request)) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer conn.Close()
				r, err := http.ReadRequest(bufio.NewReader(conn))
				if err != nil {
					return
				}
				if _, err := io.Copy(io.Discard, r.Body); err == nil {
					deal(conn.(*net.TCPConn), r)
				}
			})
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		wg.Wait()
	})
	return "http://" + listener.Addr().String()
}

// say answers on a connection; that the other side has gone is no matter.
func say(conn *net.TCPConn, text string) { _, _ = io.WriteString(conn, text) }

// untilGone waits for the other side to close the connection.
func untilGone(conn *net.TCPConn) { _, _ = io.Copy(io.Discard, conn) }

// TestEndpointsThatMisbehave: each is tried again, at once or at the end of the time, with an error that says what is wrong and quotes nothing.
func TestEndpointsThatMisbehave(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		rule  string
		deal  func(conn *net.TCPConn, r *http.Request)
		limit time.Duration
		want  string
	}{
		{"closes without an answer", func(*net.TCPConn, *http.Request) {}, patience, "post event: the endpoint closed the connection without an answer"},
		{"resets the connection", func(conn *net.TCPConn, _ *http.Request) { _ = conn.SetLinger(0) }, patience, "connection reset by peer"},
		{"closes its half and answers nothing", func(conn *net.TCPConn, _ *http.Request) { _ = conn.CloseWrite(); untilGone(conn) }, patience,
			"post event: the endpoint closed the connection without an answer"},
		{"closes in the middle of the head", func(conn *net.TCPConn, _ *http.Request) { say(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n") }, patience,
			"post event: the endpoint closed the connection without an answer"},
		{"closes in the middle of a header", func(conn *net.TCPConn, _ *http.Request) { say(conn, "HTTP/1.1 200 OK\r\nContent-Le") }, patience,
			"post event: what listens there does not answer as HTTP does"},
		{"never answers", func(conn *net.TCPConn, _ *http.Request) { untilGone(conn) }, 100 * time.Millisecond, "post event: no answer in time: context deadline exceeded"},
		{"stalls in the head", func(conn *net.TCPConn, _ *http.Request) { say(conn, "HTTP/1.1 200 OK\r\n"); untilGone(conn) }, 100 * time.Millisecond,
			"post event: no answer in time: context deadline exceeded"},
		{"says continue and nothing else", func(conn *net.TCPConn, _ *http.Request) { say(conn, "HTTP/1.1 100 Continue\r\n\r\n"); untilGone(conn) }, 100 * time.Millisecond,
			"post event: no answer in time: context deadline exceeded"},
		{"speaks another protocol", func(conn *net.TCPConn, _ *http.Request) { say(conn, "220 4155550137 ESMTP\r\n") }, patience,
			"post event: what listens there does not answer as HTTP does"},
		{"sends back what it got", func(conn *net.TCPConn, r *http.Request) { _ = r.Write(conn) }, patience,
			"post event: what listens there does not answer as HTTP does"},
		{"has a header that is none", func(conn *net.TCPConn, _ *http.Request) { say(conn, "HTTP/1.1 200 OK\r\n4155550137\r\n\r\n") }, patience,
			"post event: what listens there does not answer as HTTP does"},
		{"begins its head with a space", func(conn *net.TCPConn, _ *http.Request) { say(conn, "HTTP/1.1 200 OK\r\n 4155550137\r\n\r\n") }, patience,
			"post event: what listens there does not answer as HTTP does"},
		{"has two lengths", func(conn *net.TCPConn, _ *http.Request) {
			say(conn, "HTTP/1.1 200 OK\r\nContent-Length: 4155550137\r\nContent-Length: 7\r\n\r\n")
		}, patience, "post event: what listens there does not answer as HTTP does"},
		{"has a head without end", func(conn *net.TCPConn, _ *http.Request) {
			say(conn, "HTTP/1.1 200 OK\r\nX: "+strings.Repeat("4155550137", 100<<10)+"\r\n\r\n")
		}, patience, "server response headers exceeded 65536 bytes"},
	} {
		t.Run(test.rule, func(t *testing.T) {
			t.Parallel()
			s := openWith(t, config(listen(t, test.deal)+"/hook?token=4155550137"))
			ctx, cancel := context.WithTimeout(t.Context(), test.limit)
			defer cancel()
			err := s.Handle(ctx, usage())
			if err == nil || handler.IsPermanent(err) || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("error is %v, want %s", err, test.want)
			}
			if strings.Contains(err.Error(), "415555") || strings.Contains(err.Error(), "hook") {
				t.Errorf("error quotes what was sent: %v", err)
			}
			if n := s.value(t, "callbackd_webhook_answers_total", "none"); n != 1 {
				t.Errorf("%v attempts are counted as without an answer", n)
			}
		})
	}
}

// TestTheStatusIsTheAnswer: what comes after it may be slow, endless or broken, and costs neither the delivery nor much time.
func TestTheStatusIsTheAnswer(t *testing.T) {
	t.Parallel()
	for rule, deal := range map[string]func(conn *net.TCPConn){
		"a body that stalls":         func(conn *net.TCPConn) { say(conn, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nab"); untilGone(conn) },
		"a body that breaks off":     func(conn *net.TCPConn) { say(conn, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nab") },
		"a body that is not as told": func(conn *net.TCPConn) { say(conn, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n") },
		"a body without end": func(conn *net.TCPConn) {
			say(conn, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
			for chunk, err := "400\r\n"+strings.Repeat("x", 0x400)+"\r\n", error(nil); err == nil; {
				_, err = io.WriteString(conn, chunk)
			}
		},
	} {
		t.Run(rule, func(t *testing.T) {
			t.Parallel()
			s := openWith(t, config(listen(t, func(conn *net.TCPConn, _ *http.Request) { deal(conn) })))
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			if err := s.Handle(ctx, usage()); err != nil || ctx.Err() != nil {
				t.Errorf("error is %v, %v", err, ctx.Err())
			}
		})
	}
}

// TestAConnectionThatTheEndpointHasGivenUpIsNoFailure: the event goes out on a new one at once.
func TestAConnectionThatTheEndpointHasGivenUpIsNoFailure(t *testing.T) {
	t.Parallel()
	e := &endpoint{}
	server, connections := counted(t, e)
	s := openWith(t, config(server.URL))
	for range 5 {
		if err := s.Handle(t.Context(), usage()); err != nil {
			t.Fatal(err)
		}
		server.CloseClientConnections()
	}
	if n := connections(); n != 5 || len(e.got()) != 5 {
		t.Errorf("%d connections for %d events", n, len(e.got()))
	}
}

// TestReadyTellsOfAnEndpointThatCannotBeReached, or that takes nothing from callbackd, until it answers otherwise; and of no answer to a single event.
func TestReadyTellsOfAnEndpointThatCannotBeReached(t *testing.T) {
	t.Parallel()
	var status atomic.Int32
	_, server := serve(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(int(status.Load())) })
	s := openWith(t, config(server.URL+"/hook?token=s3cret"))
	for _, test := range []struct {
		rule, want string
		status     int32
	}{
		{"a refusal of who asks", "the endpoint answers 401 Unauthorized: look at the secret", 401},
		{"a failure of one event", "", 500},
		{"a path that is not there", "the endpoint answers 404 Not Found: look at the path of url", 404},
		{"an event that is not wanted", "", 410},
		{"a redirect", "the endpoint answers 302 Found, a redirect that is not followed", 302},
		{"an event that is taken", "", 200},
	} {
		status.Store(test.status)
		_ = s.Handle(t.Context(), usage()) // the verdict is for other tests
		if got := text(s.ready()); got == "" != (test.want == "") || !strings.HasPrefix(got, test.want) {
			t.Errorf("%s: ready says %q, want %q", test.rule, got, test.want)
		}
	}
	server.Close()
	err := s.Handle(t.Context(), usage())
	if err == nil || handler.IsPermanent(err) || !strings.Contains(err.Error(), "connection refused") || strings.Contains(err.Error(), "s3cret") {
		t.Errorf("error is %v", err)
	}
	if got := text(s.ready()); got != text(err) {
		t.Errorf("ready says %q after %v", got, err)
	}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// TestTheTimeToConnectIsBounded by itself: a TLS handshake that stalls does not take all the time of an attempt.
func TestTheTimeToConnectIsBounded(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0") // which accepts nothing: the system does, and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	c := config("https://" + listener.Addr().String())
	c.ConnectTimeout = 50 * time.Millisecond
	s := openWith(t, c)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := s.Handle(ctx, usage()); err == nil || ctx.Err() != nil || !strings.Contains(err.Error(), "timeout") {
		t.Errorf("error is %v, %v", err, ctx.Err())
	}
}

// authority is the certificate of a test server, which vouches for itself.
func authority(server *httptest.Server) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
}

// pair is a new certificate of a client, and its key.
func pair(t *testing.T, name string) (certificate, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw})), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

// serveTLS starts a server with a configuration.
func serveTLS(t *testing.T, config *tls.Config) (*endpoint, *httptest.Server) {
	t.Helper()
	e := &endpoint{}
	server := httptest.NewUnstartedServer(e)
	server.TLS = config
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // of handshakes that are to fail
	server.StartTLS()
	t.Cleanup(server.Close)
	return e, server
}

func TestTLS(t *testing.T) {
	t.Parallel()
	own, ownKey := pair(t, "callbackd")
	foreign, foreignKey := pair(t, "somebody")
	for _, test := range []struct {
		rule             string
		server           *tls.Config
		certificate, key string
		ownCA            bool
		want             string // in the error; empty if the event arrives
	}{
		{"an authority of one's own", nil, "", "", true, ""},
		{"an authority that nobody knows", nil, "", "", false, "certificate signed by unknown authority"},
		{"a certificate of callbackd's", &tls.Config{ClientAuth: tls.RequireAnyClientCert}, own, ownKey, true, ""},
		{"a certificate that is missing", &tls.Config{ClientAuth: tls.RequireAnyClientCert}, "", "", true, "remote error: tls: certificate required"},
		{"a certificate that is refused", &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: x509.NewCertPool()}, foreign, foreignKey, true, "remote error: tls:"},
		{"TLS 1.2", &tls.Config{MaxVersion: tls.VersionTLS12}, "", "", true, ""},
		{"TLS 1.1 is too old", &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, "", "", true, "protocol version"},
	} {
		t.Run(test.rule, func(t *testing.T) {
			t.Parallel()
			e, server := serveTLS(t, test.server)
			c := config(server.URL)
			c.TLS = &handler.TLS{}
			if test.ownCA {
				c.TLS.CAFile = writeFile(t, "ca.pem", authority(server))
			}
			if test.certificate != "" {
				c.TLS.CertFile, c.TLS.KeyFile = writeFile(t, "own.crt", test.certificate), writeFile(t, "own.key", test.key)
			}
			err := openWith(t, c).Handle(t.Context(), usage())
			if test.want == "" {
				if err != nil || len(e.got()) != 1 {
					t.Errorf("%d requests, %v", len(e.got()), err)
				}
				return
			}
			if err == nil || handler.IsPermanent(err) || !strings.Contains(err.Error(), test.want) || len(e.got()) > 0 {
				t.Errorf("error is %v, want %s", err, test.want)
			}
		})
	}
}

// TestACertificateIsForItsHost, though its authority is known.
func TestACertificateIsForItsHost(t *testing.T) {
	t.Parallel()
	e, server := serveTLS(t, nil)
	dns := serveNames(t)
	dns.become("127.0.0.1")
	c := config(strings.Replace(named(t, server), "http:", "https:", 1))
	c.TLS = &handler.TLS{CAFile: writeFile(t, "ca.pem", authority(server))}
	c.WithResolver(dns.Resolver)
	if err := openWith(t, c).Handle(t.Context(), usage()); err == nil || !strings.Contains(err.Error(), "not endpoint.test") || len(e.got()) > 0 {
		t.Errorf("error is %v", err)
	}
}

// TestFilesAreReadAgainWhenTheyChange: secrets, headers and certificates are changed without a restart, and a file that cannot be used does no harm.
func TestFilesAreReadAgainWhenTheyChange(t *testing.T) {
	t.Parallel()
	first, firstKey := pair(t, "first")
	second, secondKey := pair(t, "second")
	e, server := serveTLS(t, &tls.Config{ClientAuth: tls.RequireAnyClientCert})
	c := config(server.URL)
	c.SecretFiles, c.AuthorizationFile = []string{writeFile(t, "secret", secret)}, writeFile(t, "authorization", "Bearer one")
	c.TLS = &handler.TLS{CAFile: writeFile(t, "ca.pem", authority(server)), CertFile: writeFile(t, "own.crt", first), KeyFile: writeFile(t, "own.key", firstKey)}
	s := openWith(t, c)
	post := func(wantSecret, authorization, certificate string, ready bool) {
		t.Helper()
		if err := s.Handle(t.Context(), usage()); err != nil {
			t.Fatal(err)
		}
		r := e.got()[len(e.got())-1]
		if !verifies(t, wantSecret, r) || r.Header.Get("Authorization") != authorization || r.TLS.PeerCertificates[0].Subject.CommonName != certificate {
			t.Errorf("posted with %s by %s", r.Header.Get("Authorization"), r.TLS.PeerCertificates[0].Subject.CommonName)
		}
		if outdated := s.value(t, "callbackd_webhook_files_outdated", ""); (s.ready() == nil) != ready || (outdated == 0) != ready {
			t.Errorf("ready: %v, outdated: %v", s.ready(), outdated)
		}
	}
	post(secret, "Bearer one", "first", true)
	replace(t, c.SecretFiles[0], otherSecret)
	post(otherSecret, "Bearer one", "first", true)
	replace(t, c.AuthorizationFile, "Bearer two")
	post(otherSecret, "Bearer two", "first", true)
	replace(t, c.TLS.CertFile, second) // its key is not there yet
	post(otherSecret, "Bearer two", "first", false)
	post(otherSecret, "Bearer two", "first", false)
	if err := s.ready(); !strings.Contains(err.Error(), "a file has changed and cannot be used, so what it held before is: tls.cert_file: "+c.TLS.CertFile) {
		t.Errorf("not ready: %v", err)
	}
	if n := s.log.FilterMessageSnippet("cannot use a file").Len(); n != 1 {
		t.Errorf("%d lines in the log about one change", n)
	}
	replace(t, c.TLS.KeyFile, secondKey)
	post(otherSecret, "Bearer two", "second", true)
	replace(t, c.SecretFiles[0], "hunter2")
	post(otherSecret, "Bearer two", "second", false)
	if text := s.ready().Error(); strings.Contains(text, "hunter2") {
		t.Errorf("the secret is shown: %s", text)
	}
	replace(t, c.SecretFiles[0], secret)
	post(secret, "Bearer two", "second", true)
}
