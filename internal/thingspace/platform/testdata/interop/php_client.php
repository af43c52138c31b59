<?php
// Registers a listener with PHP's SoapClient: php_client.php BASE USERNAME PASSWORD ACCOUNT URL
[, $base, $username, $password, $account, $url] = $argv;
function service($base, $name) {
    return new SoapClient("$base/$name.svc?wsdl", ['cache_wsdl' => WSDL_CACHE_NONE, 'exceptions' => true, 'connection_timeout' => 10]);
}
$session = service($base, 'SessionService');
$answer = $session->LogIn(['Input' => ['Username' => $username, 'Password' => $password]]);
$header = new SoapHeader('http://nphase.com/unifiedwebservice/v2', 'token', $answer->Output->SessionToken);
$registration = service($base, 'CallbackRegistrationService');
$registration->__setSoapHeaders([$header]);
$registration->RegisterCallback(['Input' => ['AccountName' => $account, 'ServiceName' => 'EnhancedConnectivityService', 'Url' => $url,
    'Username' => '', 'Password' => 'p']]);
$connectivity = service($base, 'EnhancedConnectivityService');
$connectivity->__setSoapHeaders([$header]);
$connectivity->StartSmsCallback(['Input' => ['AccountName' => $account]]);
$session->__setSoapHeaders([$header]);
$session->LogOut([]);
try {
    $registration->GetCallbackRegistrations(['Input' => ['AccountName' => $account]]);
} catch (SoapFault $fault) {
    echo $fault->faultcode, "\n";
}
