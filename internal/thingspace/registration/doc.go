// Package registration speaks with the platform on behalf of its customer: it logs in, lists the listeners of an account, registers and
// unregisters them, and asks for the SMS that were queued. What is known of the services stands in schemas/README.md, section 8. With
// that it keeps what the platform holds in step with what the configuration wants: [MakePlan] compares, [Apply] carries out, [Watch] looks on.
//
//	Client --encode--> request --HTTPS--> platform --answer--> soap.Scanner --> registrations, or a *Fault
//	   |
//	session: logs in on first use, and again when the token ends     State: log-ins that were refused, URLs that we registered
//
// The promises: members stand in the order and the namespaces of the published requests; answers are bounded and read by what is
// published of them, whatever stands around; no password, of ours or in an answer, leaves this package by an error, a log or a print;
// a log-in that the platform refused is not tried again, by any process on the same data directory, since five lock the account.
//
// The limits: one log-in for each Client; SOAP 1.1 is sent; answers to RegisterCallback and GetCallbackRegistrations are not
// published, so the list is recognised by its members ServiceName and Url, and an answer that may hold more than was recognised is an
// error, never an empty list.
package registration
