package receiver

import (
	"errors"
	"regexp"
	"strings"
	"sync"

	"callbackd/internal/soap"
	"callbackd/schemas"
)

// told is the text of an error for the log and for the sender. A damaged document makes names of its content, as when <Password>
// loses its ">", so of a document that could not be read no name is told but those that the schemas know.
func told(err error) string {
	var refused *soap.Error
	if !errors.As(err, &refused) || !errors.Is(err, soap.ErrMalformed) && !errors.Is(err, soap.ErrLimit) {
		return err.Error()
	}
	safe := *refused
	safe.Msg = namesInText.ReplaceAllStringFunc(refused.Msg, func(quoted string) string {
		name := strings.Trim(quoted, `"</>`)
		if _, local, prefixed := strings.Cut(name, ":"); prefixed {
			name = local
		}
		if vocabulary()[name] {
			return quoted
		}
		return "..."
	})
	steps := strings.Split(refused.Path, "/")
	for i, name := range steps {
		if name != "" && !vocabulary()[name] {
			steps[i] = "..."
		}
	}
	safe.Path = strings.Join(steps, "/")
	return safe.Error()
}

// namesInText finds what package soap quotes of a document in its messages.
var namesInText = regexp.MustCompile(`"(?:[^"\\]|\\.)*"|</[^>]*>`)

// vocabulary are the names that a message has when nothing is wrong with it.
var vocabulary = sync.OnceValue(func() map[string]bool {
	names := map[string]bool{"Envelope": true, "Header": true, "Body": true}
	declared := regexp.MustCompile(`\bname="([^"]+)"`)
	for _, file := range []string{schemas.Callback, schemas.CallbackWSDL} {
		text, err := schemas.FS.ReadFile(file)
		if err != nil {
			panic(err) // the files are part of the program
		}
		for _, m := range declared.FindAllSubmatch(text, -1) {
			names[string(m[1])] = true
		}
	}
	return names
})
