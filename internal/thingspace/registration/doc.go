// Package registration speaks with the platform on behalf of its customer: it logs in, lists the listeners of an account, registers and
// unregisters them, and asks for the SMS that were queued. What is known of the services stands in schemas/README.md, section 8. With
// that it keeps what the platform holds in step with what the configuration wants: [MakePlan] compares, [Apply] carries out, [Watch] looks on.
//
//	what is wanted --+
//	what is held ----+--> MakePlan --> Plan --> Apply --> Unregister, Register at once, List
//	what is ours ----+    MakeRotation           |
//	     ^                MakeRemoval            | each URL, before the platform learns of it
//	     +----------------- Ledger <-------------+
//
//	Client --encode--> request --HTTPS--> platform --answer--> soap.Scanner --> registrations, or a *Fault
//	   |
//	session: logs in on first use, and again when the token ends
//
//	State: the folder on disk below both, with the Ledger's URLs and the log-ins that were refused
//
// The promises of the Client: members stand in the order and the namespaces of the published requests; answers are bounded and read by
// what is published of them, whatever stands around; no password, of ours or in an answer, leaves this package by an error, a log or a
// print; a log-in that the platform refused is not tried again, by any process on the same data directory, since five lock the account.
//
// Those of plans: nothing is touched but services that are wanted, and URLs that the Ledger knows or the operator named; a listener is taken
// away only to put another in its place or because it is not wanted, one at a time, and none once a register failed; whatever is
// interrupted, the outcome of a step says what the platform holds. Only the end of the process leaves a gap, and the next plan shows it.
//
// The limits: one log-in for each Client; SOAP 1.1 is sent; answers to RegisterCallback and GetCallbackRegistrations are not
// published, so the list is recognised by its members ServiceName and Url, and an answer that may hold more than was recognised is an
// error, never an empty list.
package registration
