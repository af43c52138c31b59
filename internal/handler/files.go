package handler

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"go.uber.org/zap"
)

// ReadSecret reads the one line of a file, without what editors put around it unseen. Its errors name the file, and quote nothing of it.
func ReadSecret(path string) (string, error) {
	text, err := ReadFile(path)
	if err != nil {
		return "", err
	}
	line := strings.TrimRight(strings.TrimPrefix(string(text), "\ufeff"), "\r\n")
	switch {
	case strings.TrimSpace(line) == "":
		return "", fmt.Errorf("%s: is empty: write the secret into it", path)
	case strings.ContainsAny(line, "\r\n\x00"):
		return "", fmt.Errorf("%s: has several lines: a secret has one", path)
	}
	return line, nil
}

// ReadFile reads a file of secrets or certificates, of bounded size. Its errors name the file.
func ReadFile(path string) ([]byte, error) {
	const most = 1 << 20
	fail := func(err error) ([]byte, error) {
		if inner := (*os.PathError)(nil); errors.As(err, &inner) {
			err = inner.Err // without the path, which stands before it already
		}
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return fail(errors.New("there is no such file: write it, or mend the path"))
	case err != nil:
		return fail(err)
	case !info.Mode().IsRegular():
		return fail(errors.New("is not a file: name one"))
	}
	f, err := os.Open(path)
	if err != nil {
		_, err = fail(err)
		return nil, fmt.Errorf("%w: the user that callbackd runs as must be able to read it", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, most+1))
	switch {
	case err != nil:
		return fail(err)
	case len(text) > most:
		return fail(errors.New("is larger than 1 MiB"))
	}
	return text, nil
}

// WarnOfPublicSecrets has the log tell which of a configuration's files everybody on the machine can read, certificates aside.
func (e Env) WarnOfPublicSecrets(c Files) {
	const everybody = 0o004
	for key, path := range c.Paths() {
		info, err := os.Stat(*path)
		if err == nil && info.Mode().Perm()&everybody != 0 && key != "tls.ca_file" && key != "tls.cert_file" {
			e.Log.Warn("everybody on this machine can read a secret: chmod 600", zap.String("key", key), zap.String("file", *path))
		}
	}
}
