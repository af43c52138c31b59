// Package connectivity is EnhancedConnectivityService, from wsdl/enhanced-connectivity.wsdl, as gowsdl generates it.
package connectivity
