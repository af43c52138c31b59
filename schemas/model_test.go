package schemas_test

import (
	"cmp"
	"encoding/xml"
	"io/fs"
	"strings"
	"testing"

	"callbackd/schemas"
)

// node is an element of a schema document.
type node struct {
	XMLName  xml.Name
	Attrs    []xml.Attr `xml:",any,attr"`
	Children []node     `xml:",any"`
}

func (n node) attr(name string) string {
	for _, a := range n.Attrs {
		if a.Name.Space == "" && a.Name.Local == name {
			return a.Value
		}
	}
	return ""
}

// model is a schema as a list of particles for each type. Types without a name bear that of their element.
type model map[string][]string

// parse reads a schema. It fails on what this notation cannot say, so that nothing of a schema goes unseen.
func parse(t *testing.T, name string) model {
	t.Helper()
	text, err := fs.ReadFile(schemas.FS, name)
	if err != nil {
		t.Fatal(err)
	}
	var root node
	if err := xml.Unmarshal(text, &root); err != nil {
		t.Fatal(err)
	}
	m := model{}
	for _, n := range root.Children {
		switch n.XMLName.Local {
		case "complexType":
			m.add(t, n.attr("name"), n)
		case "element":
			kind := strings.TrimPrefix(n.attr("type"), "n:")
			if len(n.Children) > 0 {
				kind = n.attr("name")
				m.add(t, kind, n.Children[0])
			}
			m["(elements)"] = append(m["(elements)"], n.attr("name")+": "+kind+nillable(n))
		default:
			t.Fatalf("%s: %s at the top", name, n.XMLName.Local)
		}
	}
	return m
}

// add adds a complexType.
func (m model) add(t *testing.T, name string, n node) {
	t.Helper()
	list := []string{}
	if n.attr("mixed") == "true" {
		list = append(list, "text")
	}
	for _, child := range n.Children {
		switch child.XMLName.Local {
		case "sequence":
			for _, p := range child.Children {
				list = append(list, particle(t, p))
			}
		case "anyAttribute":
			list = append(list, "any attribute")
		default:
			t.Fatalf("%s: %s", name, child.XMLName.Local)
		}
	}
	if _, twice := m[name]; twice {
		t.Fatalf("type %s stands twice", name)
	}
	m[name] = list
}

// particle writes an element, a choice or a wildcard in one line.
func particle(t *testing.T, n node) string {
	t.Helper()
	switch n.XMLName.Local {
	case "element":
		form := ""
		if n.attr("form") == "unqualified" {
			form = " unqualified"
		}
		return n.attr("name") + ": " + strings.TrimPrefix(n.attr("type"), "n:") + nillable(n) + form + occurs(n)
	case "choice":
		var branches []string
		for _, child := range n.Children {
			branches = append(branches, particle(t, child))
		}
		return "either " + strings.Join(branches, " or ") + occurs(n)
	case "any":
		return "any " + n.attr("processContents") + occurs(n)
	}
	t.Fatalf("particle %s", n.XMLName.Local)
	return ""
}

func nillable(n node) string {
	if n.attr("nillable") == "true" {
		return " nil"
	}
	return ""
}

func occurs(n node) string {
	least, most := cmp.Or(n.attr("minOccurs"), "1"), cmp.Or(n.attr("maxOccurs"), "1")
	switch least + most {
	case "11":
		return ""
	case "01":
		return " ?"
	case "0unbounded":
		return " *"
	case "1unbounded":
		return " +"
	}
	return " " + least + ".." + most
}
