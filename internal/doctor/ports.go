package doctor

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"syscall"

	"callbackd/internal/app"
)

// address is one that callbackd is to listen on.
type address struct {
	listen string
	keys   []string // of the configuration, that write it
}

// addresses lists the addresses of the configuration, each once.
func (p *patient) addresses() []address {
	var list []address
	at := make(map[string]int)
	add := func(key, listen string) {
		i, known := at[listen]
		if !known || strings.HasSuffix(listen, ":0") { // a port of its own each time
			i = len(list)
			at[listen] = i
			list = append(list, address{listen: listen})
		}
		list[i].keys = append(list[i].keys, key)
	}
	for _, name := range sorted(p.c.Services) {
		add("services."+name+".listen", p.c.Services[name].Listen)
	}
	add("admin.listen", p.c.Admin.Listen)
	return list
}

// ports: each address can be bound, or is bound by the callbackd that runs.
func (p *patient) ports(ctx context.Context) []Finding {
	var findings []Finding
	for _, a := range p.addresses() {
		f := p.port(ctx, a)
		f.Subject = fmt.Sprintf("%s (%s)", a.listen, strings.Join(a.keys, ", "))
		findings = append(findings, f)
	}
	return findings
}

func (p *patient) port(ctx context.Context, a address) Finding {
	if p.status != nil {
		switch held := slices.Collect(maps.Values(p.status.Listen)); {
		case p.status.Listen[a.keys[0]] == a.listen:
			return Finding{Level: OK, Found: "held by the callbackd that runs"}
		case slices.Contains(held, a.listen):
			return Finding{Level: Warn, Found: "held by the callbackd that runs, for another listener", Advice: "restart callbackd with this configuration"}
		}
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", a.listen)
	switch {
	case err == nil:
		_ = l.Close()
		if p.status != nil {
			return Finding{Level: Warn, Found: "free, and the callbackd that runs does not listen there", Advice: "restart callbackd with this configuration"}
		}
		return Finding{Level: OK, Found: "free"}
	case errors.Is(err, syscall.EADDRINUSE) && p.running && p.status == nil:
		return Finding{Level: Warn, Found: "taken, and whether by the callbackd that runs cannot be told", Advice: app.BindAdvice(err, a.listen)}
	case errors.Is(err, syscall.EADDRINUSE):
		return Finding{Level: Fail, Found: err.Error(), Advice: app.BindAdvice(err, a.listen) +
			". If process 1 has it, systemd holds it for callbackd: start that, and run doctor again"}
	}
	return Finding{Level: Fail, Found: err.Error(), Advice: app.BindAdvice(err, a.listen)}
}
