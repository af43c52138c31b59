package thingspace

import "slices"

// The payloads' roots.
const (
	rootCallback = "CallbackRequest"
	rootSMS      = "SmsCallbackRequest"
)

// SchemaPaths lists, in order, the paths that the callback schema gives a name to, as [Violation] writes them. What stands elsewhere, beneath
// an element that the schema leaves open or is not in it at all, has none of them.
func SchemaPaths() []string {
	var paths []string
	var walk func(at string, e *edge)
	walk = func(at string, e *edge) {
		at += e.local
		paths = append(paths, at)
		declared := types[e.typ].declared
		for i := range declared {
			walk(at+"/", &declared[i])
		}
	}
	for i := range globals {
		if g := &globals[i]; g.space == Namespace && (g.local == rootCallback || g.local == rootSMS) {
			walk("", g)
		}
	}
	slices.Sort(paths)
	return slices.Compact(paths)
}
