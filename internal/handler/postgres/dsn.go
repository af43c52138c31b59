package postgres

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgxpool"
)

// dsn is where the database is, and how to talk to it.
type dsn struct {
	hosts, ports   string // lists with commas, as the driver takes them
	user, database string
	settings       map[string]string // the rest
}

// settings are those of libpq that a DSN may have, and what holds where it has them not. The environment (PG* variables) and files in
// somebody's home (.pgpass, .postgresql) set nothing: what is in effect stands in the configuration.
func settings() map[string]string {
	return map[string]string{
		"sslmode": "verify-full", "sslrootcert": "", "sslcert": "", "sslkey": "", "connect_timeout": "10", "target_session_attrs": "any",
		"application_name": "callbackd", "channel_binding": "prefer", "require_auth": "",
	}
}

// parseDSN reads postgres://USER@HOST:PORT/DATABASE?SETTING=VALUE. No error quotes it, for somebody may have written a password.
func parseDSN(text string) (dsn, error) {
	const form = "write postgres://USER@HOST/DATABASE?sslmode=verify-full"
	if text == "" {
		return dsn{}, errors.New("missing: where the database is: " + form)
	}
	u, query, err := splitDSN(text)
	switch {
	case err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" || u.Opaque != "" || u.Fragment != "":
		return dsn{}, errors.New("is not the URL of a database: " + form)
	case hasPassword(u) || query.Has("password"):
		return dsn{}, errors.New("holds a password, which would be shown: write it into a file, and name that in password_file")
	case u.User.Username() == "":
		return dsn{}, errors.New("names no user: " + form)
	case strings.Trim(u.Path, "/") == "":
		return dsn{}, errors.New("names no database: " + form)
	}
	d := dsn{user: u.User.Username(), database: strings.TrimPrefix(u.Path, "/"), hosts: u.Hostname(), ports: u.Port(), settings: settings()}
	if query.Has("host") { // for sockets, and for several
		if d.hosts != "" {
			return dsn{}, errors.New("names hosts before the database and in host= as well: keep one")
		}
		d.hosts = query.Get("host")
	}
	if query.Has("port") {
		d.ports = query.Get("port")
	}
	query.Del("host")
	query.Del("port")
	if d.hosts == "" || slices.Contains(strings.Split(d.hosts, ","), "") {
		return dsn{}, errors.New("names no host: write it before the database, and the folder of a socket as ?host=/var/run/postgresql")
	}
	return d, d.set(query)
}

// splitDSN is apart for url.Parse, whose errors quote their input.
func splitDSN(text string) (*url.URL, url.Values, error) {
	u, err := url.Parse(text)
	if err != nil {
		return nil, nil, err
	}
	query, err := url.ParseQuery(u.RawQuery)
	return u, query, err
}

func hasPassword(u *url.URL) bool {
	_, has := u.User.Password()
	return has
}

// set takes the settings.
func (d *dsn) set(query url.Values) error {
	for _, key := range slices.Sorted(maps.Keys(query)) {
		value := query.Get(key)
		if _, ok := d.settings[key]; !ok {
			return fmt.Errorf("has a setting %.40q that is none of host, port, %s", key, strings.Join(slices.Sorted(maps.Keys(d.settings)), ", "))
		}
		if len(query[key]) > 1 {
			return fmt.Errorf("sets %s twice", key)
		}
		if strings.HasPrefix(key, "ssl") && key != "sslmode" && value != "system" && !filepath.IsAbs(value) {
			return fmt.Errorf("%s must be an absolute path", key)
		}
		d.settings[key] = value
	}
	modes := []string{"disable", "allow", "prefer", "require", "verify-ca", "verify-full"}
	if mode := d.settings["sslmode"]; !slices.Contains(modes, mode) {
		return fmt.Errorf("sslmode is none of %s", strings.Join(modes, ", "))
	}
	attrs := []string{"any", "read-write", "read-only", "primary", "standby", "prefer-standby"}
	if !slices.Contains(attrs, d.settings["target_session_attrs"]) {
		return fmt.Errorf("target_session_attrs is none of %s", strings.Join(attrs, ", "))
	}
	return nil
}

// warning says that the server need not prove who it is; empty if it need, or is this machine.
func (d dsn) warning() string {
	if mode := d.settings["sslmode"]; mode != "verify-full" && d.settings["sslrootcert"] != "system" && !d.local() {
		return fmt.Sprintf("sslmode=%s lets whoever stands in between read and forge what is written: use verify-full, with sslrootcert for an authority of your own", mode)
	}
	return ""
}

// local reports whether all hosts are sockets or loopback.
func (d dsn) local() bool {
	for host := range strings.SplitSeq(d.hosts, ",") {
		addr, _ := netip.ParseAddr(host)
		if !strings.HasPrefix(host, "/") && host != "localhost" && !addr.IsLoopback() {
			return false
		}
	}
	return true
}

// pool is the configuration of the driver. Files that settings name are read here.
func (d dsn) pool() (*pgxpool.Config, error) {
	query := url.Values{"host": {d.hosts}, "port": {d.ports}}
	for key, value := range d.settings {
		query.Set(key, value)
	}
	// What the driver would take from elsewhere.
	for key, value := range map[string]string{"passfile": os.DevNull, "sslcertmode": "allow", "sslsni": "1", "sslpassword": "", "sslnegotiation": "",
		"options": "", "timezone": "UTC", "password": "none", "min_protocol_version": "", "max_protocol_version": ""} {
		query.Set(key, value)
	}
	u := url.URL{Scheme: "postgres", User: url.User(d.user), Path: "/" + d.database, RawQuery: query.Encode()}
	c, err := pgxpool.ParseConfig(u.String())
	if err != nil {
		if inner := errors.Unwrap(err); inner != nil {
			err = inner // the outer one quotes the DSN
		}
		return nil, fmt.Errorf("dsn: %w", err)
	}
	c.ConnConfig.Password = ""
	c.ConnConfig.RuntimeParams = map[string]string{"application_name": d.settings["application_name"], "timezone": "UTC"}
	return c, nil
}
