// Calls both operations of a callback listener with the package soap: client.js WSDL USERNAME PASSWORD REQUEST_ID TEXT
'use strict';

const soap = require('soap');

async function main([wsdl, username, password, requestId, text]) {
  const client = await soap.createClientAsync(wsdl);
  await client.CallbackRequestAsync({
    Username: username,
    Password: password,
    RequestId: requestId,
    Device: [{ Kind: 'mdn', Identifier: '3124705797' }],
    Data: { SMSDelivery: { Confirmation: text }, Status: 'Success' },
    CallbackCount: 1,
    MaxCallbackThreshold: 4,
  });
  await client.SmsCallbackRequestAsync({
    Username: username,
    Password: password,
    Device: [{ Kind: 'esn', Identifier: '60E5F99D' }, { Kind: 'mdn', Identifier: '3124705797' }],
    SmsMessage: text,
  });
}

main(process.argv.slice(2)).catch((err) => {
  console.error(err);
  process.exitCode = 1;
});
