// Package monitoring holds what operators watch callbackd with to the program: it has tests only. The rules in deploy/prometheus, the
// dashboards in deploy/grafana and the runbooks in deploy/runbooks name nothing that /metrics of the whole program does not show; each
// alert has a runbook, a test in which it fires and one in which it does not; each command in a runbook exists.
//
// Prometheus' own parser reads the expressions, so that `make test` needs Go alone. What the rules do is tested by its promtool, which
// would take almost five minutes of a processor to build: it is a counterpart, which tests skip without and CI installs.
package monitoring
