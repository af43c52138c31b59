// Package auth decides who may call: by address before the body is read, by user name and password after it.
//
//	connection --WrapListener--> PROXY header required of trusted peers, refused from others; beneath TLS
//	     |
//	request head --NetworkGate.Admit--> source address (through trusted proxies) --> known? --> enforce or observe
//	     |
//	body, as read --CredentialGate.Check--> label and id of the pair that matched
//
// The promise: nobody gets in by accident. A gate is not built from a configuration that leaves open whether it is to be open;
// what could not be read is not guessed; a header is heeded only from a peer that is listed as a proxy. No password is ever
// printed, logged, encoded or kept by a gate, and which pair matched cannot be told from the time that it took.
//
// The limits: ThingSpace signs nothing and sends both secrets in clear within the body, so a matching pair proves no more than
// that the sender knows it. Listeners on Unix sockets have no source address and do not pass an enforcing gate.
//
// Gates do not change once built. To reload, build new ones and swap them, held in an atomic.Pointer.
package auth
