package receiver

import (
	"compress/flate"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// budget is the memory that all requests in flight share. Nobody waits for it: a request that finds none left is refused, for the
// platform tries again.
type budget struct {
	mu     sync.Mutex
	free   int64
	taken  int64
	metric prometheus.Gauge
}

func (b *budget) take(n int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if n > b.free {
		return false
	}
	b.free -= n
	b.taken += n
	b.metric.Set(float64(b.taken))
	return true
}

func (b *budget) give(n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.free += n
	b.taken -= n
	b.metric.Set(float64(b.taken))
}

// share is what one request has taken of the budget.
type share struct {
	budget *budget
	taken  int64
}

func (s *share) grow(to int64) error {
	if to <= s.taken {
		return nil
	}
	if !s.budget.take(to - s.taken) {
		return errInFlight
	}
	s.taken = to
	return nil
}

func (s *share) release() { s.budget.give(s.taken) }

// firstRead is the most that is set aside for a body before any of it has arrived.
const firstRead = 64 << 10

// readBody reads a request's body, decoded, and takes its size from the budget as it grows. It refuses before it reads what says
// that it is too long.
func readBody(w http.ResponseWriter, r *http.Request, limit int, s *share) ([]byte, error) {
	if r.ContentLength > int64(limit) {
		return nil, errTooLarge
	}
	// A variable of our own: setting r.Body would keep a refused "Expect: 100-continue" waiting.
	var body io.Reader = http.MaxBytesReader(w, r.Body, int64(limit))
	switch strings.ToLower(strings.TrimSpace(r.Header.Get("Content-Encoding"))) {
	case "", "identity":
	case "gzip", "x-gzip":
		z, err := gzip.NewReader(body)
		if err != nil {
			return nil, gzipError(err)
		}
		body = gzipReader{z}
	default:
		return nil, errContent
	}
	size := int64(firstRead)
	if r.ContentLength >= 0 && r.ContentLength < size {
		size = r.ContentLength + 1 // room to see the end
	}
	return readAll(body, int(size), limit, s)
}

func readAll(body io.Reader, size, limit int, s *share) ([]byte, error) {
	if err := s.grow(int64(size)); err != nil {
		return nil, err
	}
	buf := make([]byte, 0, size)
	for {
		if len(buf) == cap(buf) {
			if len(buf) > limit {
				return nil, errTooLarge
			}
			larger := min(2*cap(buf), limit+1)
			// Both buffers exist while one is copied into the other.
			if err := s.grow(int64(cap(buf) + larger)); err != nil {
				return nil, err
			}
			buf = append(make([]byte, 0, larger), buf...)
		}
		n, err := body.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if len(buf) > limit {
			return nil, errTooLarge
		}
		if errors.Is(err, io.EOF) {
			return buf, nil
		}
		if err != nil {
			return nil, readError(err)
		}
	}
}

// gzipReader marks what is wrong with the compression, as opposed to the connection.
type gzipReader struct{ z *gzip.Reader }

func (g gzipReader) Read(p []byte) (int, error) {
	n, err := g.z.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = gzipError(err)
	}
	return n, err
}

func gzipError(err error) error {
	var corrupt flate.CorruptInputError
	if errors.Is(err, gzip.ErrHeader) || errors.Is(err, gzip.ErrChecksum) || errors.As(err, &corrupt) {
		return fmt.Errorf("%w: the body is no gzip stream, which its Content-Encoding says it is", errContent)
	}
	return err
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
	case media == "application/json", strings.HasSuffix(media, "+json"), media == "application/x-www-form-urlencoded",
		media == "multipart/form-data":
		return "", false, fmt.Errorf("%w (this is %s)", errMediaType, media)
	case media == "text/xml", media == "application/xml", media == "application/soap+xml":
		return params["charset"], true, nil
	}
	return params["charset"], false, nil
}
