// Package e2e tests callbackd as a whole: real sockets, a real inbox, real clients. It holds tests alone.
package e2e
