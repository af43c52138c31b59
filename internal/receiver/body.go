package receiver

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"strings"
)

const (
	// firstRead is the most that is set aside for a body before any of it has arrived.
	firstRead = 64 << 10
	// gunzipMemory is what the decompressor of a body needs for itself.
	gunzipMemory = 48 << 10
)

// readBody reads a request's body, decoded, and takes its size from the budget as it grows. It refuses before it reads what says
// that it is too long. With an error it returns what it has read until then.
func readBody(w http.ResponseWriter, r *http.Request, limit int, memory *share) ([]byte, error) {
	gzipped, err := contentCoding(r.Header["Content-Encoding"])
	if err != nil {
		return nil, err
	}
	if r.ContentLength > int64(limit) {
		return nil, errTooLarge
	}
	size := int64(firstRead)
	if r.ContentLength >= 0 && r.ContentLength < size {
		size = r.ContentLength + 1 // room to see the end
	}
	b := &body{limit: limit, memory: memory}
	if gzipped {
		b.overhead = gunzipMemory
	}
	// Before the first read, which asks a sender that waits for "100 Continue" to send its body.
	if err := memory.reserve(b.memoryFor(int(size))); err != nil {
		return nil, err
	}
	b.bytes = make([]byte, 0, size)
	// A variable of our own: setting r.Body would keep a refused "Expect: 100-continue" waiting.
	wire := &wireReader{r: http.MaxBytesReader(w, r.Body, int64(limit))}
	var source io.Reader = wire
	if gzipped {
		source = &gunzipReader{wire: wire}
	}
	err = b.readFrom(source)
	if wire.err != nil {
		err = wire.err // what the decompressor makes of it matters less
	}
	return b.bytes, err
}

// contentCoding reads Content-Encoding. One gzip is enough: a second only makes a bomb of it.
func contentCoding(lines []string) (gzipped bool, err error) {
	for _, line := range lines {
		for coding := range strings.SplitSeq(line, ",") {
			switch strings.ToLower(strings.TrimSpace(coding)) {
			case "", "identity":
			case "gzip", "x-gzip":
				if gzipped {
					return false, errContentEncoding
				}
				gzipped = true
			default:
				return false, errContentEncoding
			}
		}
	}
	return gzipped, nil
}

// body is a body as far as it has been read.
type body struct {
	bytes    []byte
	limit    int
	overhead int64
	memory   *share
}

// memoryFor is what a buffer of this size stands for: itself, and as much again for the smaller one that is copied into it, or later
// for the copy without passwords that is on its way to the disk. No message needs more than the largest.
func (b *body) memoryFor(size int) int64 { return min(b.overhead+2*int64(size), 2*int64(b.limit+1)) }

func (b *body) readFrom(source io.Reader) error {
	for {
		if len(b.bytes) == cap(b.bytes) {
			size := min(2*cap(b.bytes), b.limit+1)
			if err := b.memory.grow(b.memoryFor(size)); err != nil {
				return err
			}
			b.bytes = append(make([]byte, 0, size), b.bytes...)
		}
		n, err := source.Read(b.bytes[len(b.bytes):cap(b.bytes)])
		b.bytes = b.bytes[:len(b.bytes)+n]
		if len(b.bytes) > b.limit {
			return errTooLarge
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// wireReader tells what goes wrong with the connection, and keeps it apart from what is wrong with the content.
type wireReader struct {
	r   io.Reader
	err error
}

func (w *wireReader) Read(p []byte) (int, error) {
	n, err := w.r.Read(p)
	if err == nil || errors.Is(err, io.EOF) {
		return n, err
	}
	var tooLarge *http.MaxBytesError
	var network net.Error
	switch {
	case errors.As(err, &tooLarge):
		w.err = errTooLarge
	case errors.As(err, &network) && network.Timeout():
		w.err = errTimeout
	default:
		w.err = fmt.Errorf("%w: %w", errAborted, err)
	}
	return n, w.err
}

// gunzipReader decompresses. Every error but the end is one of the content.
type gunzipReader struct {
	wire *wireReader
	z    *gzip.Reader
}

func (g *gunzipReader) Read(p []byte) (n int, err error) {
	if g.z == nil {
		if g.z, err = gzip.NewReader(g.wire); err != nil {
			return 0, errGzip // an empty body too: no gzip stream is empty
		}
	}
	n, err = g.z.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = errGzip
	}
	return n, err
}

// media is a Content-Type and what is made of it.
type media struct {
	header, charset string
	familiar        bool
	err             error
}

// mediaType judges the Content-Type. A sender's is most often the same as its last.
func (in *intake) mediaType(header string) (charset string, familiar bool, err error) {
	last := in.media.Load()
	if last == nil || last.header != header {
		last = &media{header: header}
		last.charset, last.familiar, last.err = mediaType(header)
		in.media.Store(last)
	}
	return last.charset, last.familiar, last.err
}

// mediaType judges the Content-Type. The platform's own is not published, so a missing or unfamiliar one is taken; only what is
// certainly another protocol is refused.
func mediaType(header string) (charset string, familiar bool, err error) {
	if header == "" {
		return "", false, nil
	}
	media, params, parseErr := mime.ParseMediaType(header)
	if parseErr != nil && media == "" {
		media, _, _ = strings.Cut(header, ";")
		media = strings.ToLower(strings.TrimSpace(media))
	}
	switch {
	case media == "application/json", media == "text/json", strings.HasSuffix(media, "+json"),
		media == "application/x-www-form-urlencoded", media == "multipart/form-data":
		return "", false, errMediaType
	case media == "text/xml", media == "application/xml", media == "application/soap+xml":
		return params["charset"], true, nil
	}
	return params["charset"], false, nil
}

// isJSON tells a JSON text that does not call itself one from a broken XML document.
func isJSON(body []byte) bool {
	body = bytes.TrimLeft(bytes.TrimPrefix(body, []byte("\xef\xbb\xbf")), " \t\r\n")
	return len(body) > 0 && (body[0] == '{' || body[0] == '[')
}
