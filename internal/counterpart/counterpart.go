// Package counterpart finds the real programs that tests compare callbackd with: xmllint, PHP, Python and the like.
//
// A test whose program is not on the machine is skipped, and says what went unchecked, so that `make test` needs Go alone. Where
// CALLBACKD_COUNTERPARTS=required is set, as in CI, which installs them all, it fails instead: there a skip would hide a failure.
package counterpart

import (
	"os"
	"os/exec"
	"testing"
)

// Required says that every counterpart has to be there.
const Required = "CALLBACKD_COUNTERPARTS"

// Program is the path of a program, or the end of the test. unchecked says what is not checked without it.
func Program(t testing.TB, name, unchecked string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		Missing(t, name, unchecked)
	}
	return path
}

// Missing ends a test whose counterpart is not there.
func Missing(t testing.TB, name, unchecked string) {
	t.Helper()
	if os.Getenv(Required) == "required" {
		t.Fatalf("%s is not on this machine, and %s=required: install it; unchecked: %s", name, Required, unchecked)
	}
	t.Skipf("%s is not on this machine; unchecked: %s", name, unchecked)
}

// Forbidden ends a test that needs what this machine's kernel does not allow, such as namespaces within a container. No program can be
// installed that would mend it, so it skips where counterparts are required too.
func Forbidden(t testing.TB, what, unchecked string) {
	t.Helper()
	t.Skipf("this machine does not allow %s; unchecked: %s", what, unchecked)
}
