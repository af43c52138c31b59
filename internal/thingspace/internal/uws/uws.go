// Package uws is the home of the Go types that gowsdl generates from the WSDLs, one package for each. The folder is internal to
// package thingspace and its children: nobody else can import them.
//
// They are the contract as an independent tool reads it. The receiver does not unmarshal into them, for encoding/xml ignores
// namespaces and xsi:nil, takes a repeated element's last value and turns a bad date into the year 1; tests hold the decoder
// against them instead.
//
// What they cannot say: nil instead of absent, and an element in a namespace other than its root's. The members of Input and Output
// of the platform's services stand in such a namespace, so a client of theirs that marshals these types as they are writes what
// the platform refuses. Package registration fills them in and writes them itself.
package uws

//go:generate go tool gowsdl -d . -p connectivity -o connectivity.go ../../../../wsdl/enhanced-connectivity.wsdl
//go:generate go tool gowsdl -d . -p listener -o listener.go ../../../../wsdl/callback-listener.wsdl
//go:generate go tool gowsdl -d . -p registration -o registration.go ../../../../wsdl/callback-registration.wsdl
//go:generate go tool gowsdl -d . -p session -o session.go ../../../../wsdl/session.wsdl
