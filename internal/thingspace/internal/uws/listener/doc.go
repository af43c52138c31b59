// Package listener is the callback listener, from wsdl/callback-listener.wsdl, as gowsdl generates it.
package listener
