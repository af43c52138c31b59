"""Calls both operations of a callback listener with zeep: zeep_client.py WSDL USERNAME PASSWORD REQUEST_ID TEXT"""

import sys

import zeep

wsdl, username, password, request_id, text = sys.argv[1:]
client = zeep.Client(wsdl)
client.service.CallbackRequest(
    Username=username,
    Password=password,
    RequestId=request_id,
    Device=[{"Kind": "mdn", "Identifier": "3124705797"}],
    Data={"SMSDelivery": {"Confirmation": text}, "Status": "Success"},
    CallbackCount=1,
    MaxCallbackThreshold=4,
)
client.service.SmsCallbackRequest(
    Username=username,
    Password=password,
    Device=[{"Kind": "esn", "Identifier": "60E5F99D"}, {"Kind": "mdn", "Identifier": "3124705797"}],
    SmsMessage=text,
)
