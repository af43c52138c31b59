package config

import (
	"maps"
	"reflect"
	"slices"
	"strings"

	"callbackd/internal/auth"
)

// Replaced is the configuration in force once the file says next while callbackd runs: what can be replaced is next's, and all else stays
// as it is. What [Changes] finds between it and next needs a restart.
//
// What hangs together is replaced together: the services of one address, and the routes, which lead only to handlers that run.
func (c *Config) Replaced(next *Config) *Config {
	r := *c
	r.file, r.places, r.sources, r.expanded = next.file, next.places, next.sources, next.expanded
	r.AllowAnonymous, r.Credentials = next.AllowAnonymous, next.Credentials
	if c.Network.Proxy == next.Network.Proxy || c.Network.Proxy != auth.ProxyProtocol && next.Network.Proxy != auth.ProxyProtocol {
		r.Network = next.Network // else connections would be read as what they are not
	}
	r.Services = c.replacedServices(next)
	if !slices.ContainsFunc(next.Routes, func(route Route) bool {
		return slices.ContainsFunc(route.Handlers, func(name string) bool { return c.Handlers[name] == nil })
	}) {
		r.Routes = next.Routes
	}
	r.Ack, r.Log.Level, r.Shutdown.LameDuck = next.Ack, next.Log.Level, next.Shutdown.LameDuck
	if !c.Admin.Token.IsZero() && !next.Admin.Token.IsZero() {
		r.Admin.TokenFile, r.Admin.Token = next.Admin.TokenFile, next.Admin.Token
	}
	if c.Admin.WebConfigFile == next.Admin.WebConfigFile && c.Admin.Web.TLS == next.Admin.Web.TLS { // which takes all else from it by itself
		r.Admin.Web, r.Admin.certificate, r.Admin.webText = next.Admin.Web, next.Admin.certificate, next.Admin.webText
	}
	if c.Registrations.Watch == 0 { // nobody here logs in
		r.Platform, r.Accounts = next.Platform, next.Accounts
	}
	return &r
}

// replacedServices are next's at each address that has the services that it had, with TLS or without as before.
func (c *Config) replacedServices(next *Config) map[string]*Service {
	services := maps.Clone(c.Services)
	for name, s := range c.Services {
		if slices.Equal(c.neighbours(s), next.neighbours(s)) {
			services[name] = next.Services[name]
		}
	}
	return services
}

// neighbours are the services at the address of s, each with whether it has TLS.
func (c *Config) neighbours(s *Service) []string {
	var names []string
	for _, name := range sortedKeys(c.Services) {
		switch other := c.Services[name]; {
		case other.Listen != s.Listen:
		case other.TLS != nil:
			names = append(names, name+" over TLS")
		default:
			names = append(names, name)
		}
	}
	return names
}

// Changes lists the keys in which two configurations differ, with what the files hold that they name. Of a key that only one of them has,
// such as a handler, nothing within it is listed.
func Changes(from, to *Config) []string {
	var list changes
	list.compare(reflect.ValueOf(from).Elem(), reflect.ValueOf(to).Elem(), "")
	slices.Sort(list)
	var outermost []string
	for _, path := range list {
		if n := len(outermost); n == 0 || path != outermost[n-1] && !within(path, outermost[n-1]) {
			outermost = append(outermost, path)
		}
	}
	return outermost
}

type changes []string

func (l *changes) compare(a, b reflect.Value, path string) {
	switch t := a.Type(); {
	case t == secretType, t.Kind() != reflect.Pointer && t.Kind() != reflect.Interface && t.Kind() != reflect.Struct && t.Kind() != reflect.Map && t.Kind() != reflect.Slice:
		if !reflect.DeepEqual(a.Interface(), b.Interface()) {
			*l = append(*l, path)
		}
	case t.Kind() == reflect.Pointer || t.Kind() == reflect.Interface:
		l.within(a, b, path)
	case t.Kind() == reflect.Struct:
		l.fields(a, b, path)
	case t.Kind() == reflect.Map:
		keys := make(map[string]reflect.Value)
		for _, k := range append(a.MapKeys(), b.MapKeys()...) {
			keys[k.String()] = k
		}
		for name, k := range keys {
			l.within(a.MapIndex(k), b.MapIndex(k), child(path, name))
		}
	case a.Len() != b.Len():
		*l = append(*l, path)
	default:
		for i := range a.Len() {
			l.compare(a.Index(i), b.Index(i), indexed(path, i))
		}
	}
}

// within compares what may be missing on one side, or be of another type.
func (l *changes) within(a, b reflect.Value, path string) {
	for a.IsValid() && b.IsValid() && a.Kind() == b.Kind() && (a.Kind() == reflect.Pointer || a.Kind() == reflect.Interface) {
		a, b = a.Elem(), b.Elem()
	}
	switch {
	case !a.IsValid() && !b.IsValid():
	case !a.IsValid() || !b.IsValid() || a.Type() != b.Type():
		*l = append(*l, path)
	default:
		l.compare(a, b, path)
	}
}

// fields compares the keys of a struct. A secret that was read from a file stands under the key that names the file.
func (l *changes) fields(a, b reflect.Value, path string) {
	before := len(*l)
	t := a.Type()
	for i := range t.NumField() {
		f := t.Field(i)
		key, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		switch file, _ := t.FieldByName(f.Name + "File"); {
		case !f.IsExported():
		case f.Type == secretType && (key == "-" || !a.FieldByName(f.Name+"File").IsZero()):
			key, _, _ = strings.Cut(file.Tag.Get("yaml"), ",")
			l.compare(a.Field(i), b.Field(i), child(path, key))
		case t == handlerType && f.Name == "Config":
			l.within(a.Field(i), b.Field(i), path) // its keys stand beside the others
		case key != "-" && key != "":
			l.compare(a.Field(i), b.Field(i), child(path, key))
		}
	}
	if t == tlsType && len(*l) == before && a.Addr().Interface().(*TLS).text != b.Addr().Interface().(*TLS).text {
		*l = append(*l, path)
	}
	if t == adminType && a.Addr().Interface().(*Admin).webText != b.Addr().Interface().(*Admin).webText {
		*l = append(*l, child(path, "web_config_file"))
	}
}

var (
	tlsType   = reflect.TypeFor[TLS]()
	adminType = reflect.TypeFor[Admin]()
)
