"""Registers a listener with zeep: zeep_client.py BASE USERNAME PASSWORD ACCOUNT URL"""

import sys

import zeep

base, username, password, account, url = sys.argv[1:]


def service(name):
    return zeep.Client(f"{base}/{name}.svc?wsdl")


session = service("SessionService")
token = session.service.LogIn(Input={"Username": username, "Password": password})
registration = service("CallbackRegistrationService")
header = {"token": token}
registration.service.RegisterCallback(
    Input={"AccountName": account, "ServiceName": "EnhancedConnectivityService", "Url": url, "Username": "", "Password": "p"},
    _soapheaders=header,
)
service("EnhancedConnectivityService").service.StartSmsCallback(Input={"AccountName": account}, _soapheaders=header)
session.service.LogOut(_soapheaders=header)
try:
    registration.service.GetCallbackRegistrations(Input={"AccountName": account}, _soapheaders=header)
except zeep.exceptions.Fault as fault:
    print(fault.code)
