// Package session is SessionService, from wsdl/session.wsdl, as gowsdl generates it.
package session
