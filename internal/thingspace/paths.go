package thingspace

import (
	"regexp"
	"slices"

	"callbackd/schemas"
)

// SchemaPaths lists, in order, the paths that the callback schema gives a name to, as [Violation] writes them. What stands elsewhere, beneath
// an element that the schema leaves open or is not in it at all, has none of them.
func SchemaPaths() []string {
	text, err := schemas.FS.ReadFile(schemas.Callback)
	if err != nil {
		panic(err) // the file is part of the program
	}
	// The schema is flat: a type is a name and the elements that follow it, up to the next type or to a global element.
	type element struct{ name, of string }
	members := map[string][]element{}
	var roots, open []element // global elements: the payloads, and what stands where a type is open
	within := ""
	for _, m := range schemaLine.FindAllSubmatch(text, -1) {
		indent, what, name, of := string(m[1]), string(m[2]), string(m[3]), string(m[4])
		e := element{name, of}
		switch {
		case what == "complexType":
			within = name
		case indent != globalIndent:
			members[within] = append(members[within], e)
		case slices.Contains([]string{rootCallback, rootSMS}, name):
			roots = append(roots, e)
		default:
			open = append(open, e)
		}
	}
	members["CarrierServiceCallbackRequest"] = open
	var paths []string
	var walk func(at string, e element)
	walk = func(at string, e element) {
		at += e.name
		paths = append(paths, at)
		for _, member := range members[e.of] {
			walk(at+"/", member)
		}
	}
	for _, root := range roots {
		walk("", root)
	}
	slices.Sort(paths)
	return slices.Compact(paths)
}

// The payloads' roots.
const (
	rootCallback = "CallbackRequest"
	rootSMS      = "SmsCallbackRequest"
)

// globalIndent is how far the schema's global elements are set in.
const globalIndent = "  "

// schemaLine finds the types and elements of the schema.
var schemaLine = regexp.MustCompile(`(?m)^( +)<xs:(complexType|element) name="([^"]+)"(?: type="(?:n|xs):([^"]+)")?`)
