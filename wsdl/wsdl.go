// Package wsdl holds the WSDLs: that of the callback listener, which every listener serves, and those of the platform's services
// that callbackd calls. The Go types in internal/thingspace/internal/uws are generated from them.
package wsdl

import (
	"embed"
	"encoding/xml"
	"fmt"
	"strings"

	"callbackd/schemas"
)

// FS holds the files. The schemas that they refer to stand in package schemas.
//
//go:embed *.wsdl
var FS embed.FS

//go:embed callback-listener.wsdl
var listener string

// Listener is the WSDL of a listener at the given address, its schema inline.
func Listener(address string) ([]byte, error) {
	schema, err := schemas.FS.ReadFile(schemas.CallbackWSDL)
	if err != nil {
		return nil, fmt.Errorf("read schema: %w", err)
	}
	_, inline, found := strings.Cut(string(schema), "?>")
	if !found {
		return nil, fmt.Errorf("schema %s has no XML declaration", schemas.CallbackWSDL)
	}
	var escaped strings.Builder
	if err := xml.EscapeText(&escaped, []byte(address)); err != nil {
		return nil, fmt.Errorf("escape address: %w", err)
	}
	text := listener
	for _, r := range [][2]string{
		{importOfSchema, strings.TrimSpace(inline)},
		{`<soap:address location="http://localhost:28200/"/>`, `<soap:address location="` + escaped.String() + `"/>`},
	} {
		if strings.Count(text, r[0]) != 1 {
			return nil, fmt.Errorf("callback-listener.wsdl does not hold %q once", r[0])
		}
		text = strings.Replace(text, r[0], r[1], 1)
	}
	return []byte(text), nil
}

const importOfSchema = `<xs:schema>
      <xs:import namespace="http://nphase.com/unifiedwebservice/v2" schemaLocation="../schemas/callback-wsdl.xsd"/>
    </xs:schema>`
