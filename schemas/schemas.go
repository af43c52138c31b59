// Package schemas holds the XML schemas of the platform's messages, and the JSON Schema of the event that a handler gets. README.md beside
// them says what is published, what is inferred and where each fact comes from.
package schemas

import "embed"

// FS holds the schema files.
//
//go:embed *.xsd event.schema.json
var FS embed.FS

// The schemas by their file names.
const (
	Envelope11   = "soap-1.1-envelope.xsd"
	Envelope12   = "soap-1.2-envelope.xsd"
	Callback     = "callback.xsd"      // what arrives at a listener
	CallbackWSDL = "callback-wsdl.xsd" // the same for SOAP clients and code generators
	Session      = "session.xsd"
	Registration = "registration.xsd"
	Event        = "event.schema.json" // what handlers get: JSON Schema
	Connectivity = "connectivity.xsd"
)
