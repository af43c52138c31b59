package cli

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"callbackd/internal/config"
	"callbackd/internal/firewall"

	"github.com/spf13/cobra"
)

func (e *env) firewall() *cobra.Command {
	c := &cobra.Command{
		Use:   "firewall",
		Short: "Make rules for a firewall that admits the platform alone",
	}
	c.AddCommand(e.firewallRender())
	return c
}

const firewallRenderLong = `Print rules for a firewall, from network.allow and the listeners of the configuration. Nothing is loaded or changed.

  nftables  a table of its own, for nft -f
  iptables  chains of their own, for iptables-restore --noflush and ip6tables-restore --noflush, which take the same file
  aws       Terraform for security groups
  gcp       Terraform for VPC firewall rules

The rules are about the callback ports alone: no other port is opened or closed, and no default policy is changed. Those of nftables
and iptables are for the machine that callbackd runs on. With network.proxy set, connections come from network.trusted_proxies, so
those are admitted there; aws and gcp then have rules for what stands in front as well, which admit network.allow.

The set thingspace holds the addresses published for the REST sender. Where it is all that network.allow has, the command refuses
until it is told --accept-published, for the SOAP sender may have others: the list in your approval letter wins.`

func (e *env) firewallRender() *cobra.Command {
	var format string
	var accept bool
	c := &cobra.Command{
		Use:   "render",
		Short: "Print the rules for nftables, iptables, AWS or GCP",
		Long:  firewallRenderLong,
		Example: `  callbackd firewall render --format nftables > callbackd.nft && nft -c -f callbackd.nft
  callbackd firewall render --format aws --config callbackd.yaml > callbackd.tf`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return e.runFirewallRender(firewall.Format(format), accept) },
	}
	var formats []string
	for _, f := range firewall.Formats() {
		formats = append(formats, string(f))
	}
	c.Flags().StringVar(&format, "format", "", "one of "+strings.Join(formats, ", ")+" (required)")
	c.Flags().BoolVar(&accept, "accept-published", false, "render although network.allow has no addresses but the published ones")
	_ = c.RegisterFlagCompletionFunc("format", cobra.FixedCompletions(formats, cobra.ShellCompDirectiveNoFileComp))
	return c
}

func (e *env) runFirewallRender(format firewall.Format, accept bool) error {
	if !slices.Contains(firewall.Formats(), format) {
		return usagef("--format is %q: take one of %v", format, firewall.Formats())
	}
	c, _, err := e.load()
	if err != nil {
		return err
	}
	listeners, err := listenersOf(c)
	if err != nil {
		return err
	}
	text, err := firewall.Render(format, firewall.Config{
		File: config.Path(e.config), Network: c.Network, Listeners: listeners, AcceptPublished: accept,
	})
	switch {
	case errors.Is(err, firewall.ErrPublishedOnly):
		return usagef("%s: %w; or render these alone with --accept-published", c.Place("network.allow"), err)
	case errors.Is(err, firewall.ErrNoSource), errors.Is(err, firewall.ErrEveryone):
		return usagef("%s: %w", c.Place("network.allow"), err)
	case err != nil:
		return usagef("%s: %w", c.Place("services"), err)
	}
	_, err = fmt.Fprint(e.out, text)
	return err
}

// listenersOf lists the services of a configuration that has been validated, in the order of their names.
func listenersOf(c *config.Config) ([]firewall.Listener, error) {
	var list []firewall.Listener
	for _, name := range sorted(c.Services) {
		s := c.Services[name]
		host, text, err := net.SplitHostPort(s.Listen)
		if err != nil {
			return nil, fmt.Errorf("read services.%s.listen: %w", name, err)
		}
		port, err := strconv.Atoi(text)
		if err != nil {
			return nil, fmt.Errorf("read services.%s.listen: %w", name, err)
		}
		public, err := publicPort(s.PublicURL)
		if err != nil {
			return nil, fmt.Errorf("read services.%s.public_url: %w", name, err)
		}
		list = append(list, firewall.Listener{Service: name, Host: host, Port: port, Public: public})
	}
	return list, nil
}

// publicPort is the port of a URL, and 0 without one.
func publicPort(public string) (int, error) {
	if public == "" {
		return 0, nil
	}
	u, err := url.Parse(public)
	if err != nil {
		return 0, err
	}
	if u.Port() == "" {
		return map[string]int{"http": 80, "https": 443}[u.Scheme], nil
	}
	return strconv.Atoi(u.Port())
}
