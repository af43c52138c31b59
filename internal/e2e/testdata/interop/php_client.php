<?php
// Calls both operations of a callback listener with PHP's SoapClient: php_client.php WSDL USERNAME PASSWORD REQUEST_ID TEXT
[, $wsdl, $username, $password, $requestId, $text] = $argv;
$client = new SoapClient($wsdl, ['cache_wsdl' => WSDL_CACHE_NONE, 'exceptions' => true, 'connection_timeout' => 10]);
$client->CallbackRequest([
    'Username' => $username,
    'Password' => $password,
    'RequestId' => $requestId,
    'Device' => [['Kind' => 'mdn', 'Identifier' => '3124705797']],
    'Data' => ['SMSDelivery' => ['Confirmation' => $text], 'Status' => 'Success'],
    'CallbackCount' => 1,
    'MaxCallbackThreshold' => 4,
]);
$client->SmsCallbackRequest([
    'Username' => $username,
    'Password' => $password,
    'Device' => [['Kind' => 'esn', 'Identifier' => '60E5F99D'], ['Kind' => 'mdn', 'Identifier' => '3124705797']],
    'SmsMessage' => $text,
]);
