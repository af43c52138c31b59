// Package registration is CallbackRegistrationService, from wsdl/callback-registration.wsdl, as gowsdl generates it.
package registration
