package cli

import (
	"cmp"
	"context"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"callbackd/internal/app"
	"callbackd/internal/config"
	"callbackd/internal/thingspace/platform"

	"github.com/spf13/cobra"
)

// platformPassword is the variable with the password of the simulator's log-in.
const platformPassword = "CALLBACKD_PLATFORM_PASSWORD"

func (e *env) platform() *cobra.Command {
	c := &cobra.Command{
		Use:   "platform",
		Short: "Simulate the platform, to develop and test against",
		Long: "Simulate ThingSpace on this machine, which it cannot reach: log in, register and unregister as with the real one, and have it send\n" +
			"callbacks of every service by the platform's rules.",
	}
	c.AddCommand(e.platformServe(), e.platformSend(), e.platformArchive(), e.platformSMS(), e.platformStatus())
	return c
}

// simulation is one run of `platform serve`.
type simulation struct {
	*env
	listen         string
	expose         bool
	accounts       []string
	username       string
	passwordFile   string
	profile        string
	ack            string
	clock          float64
	seed           uint64
	strictPorts    bool
	listPasswords  bool
	caFile         string
	passwordSource string // as the configuration names it
}

func (e *env) platformServe() *cobra.Command {
	s := &simulation{env: e}
	c := &cobra.Command{
		Use:   "serve",
		Short: "Run the simulator: its SOAP services, and its sender",
		Long: "Run a simulator of the platform until SIGTERM or SIGINT. It serves SessionService, CallbackRegistrationService and\n" +
			"EnhancedConnectivityService, reads requests as strictly as the platform is said to, and sends what `platform send` orders.\n" +
			"Registrations, sessions, archive and queued SMS are in memory, and end with it. Five refused log-ins in a row lock the user until\n" +
			"it is started again. The log goes to standard error, a line for each call.\n\n" +
			"The password of the log-in is that in $" + platformPassword + ", or in the file of --password-file.",
		Example: `  ` + platformPassword + `=secret callbackd platform serve
  callbackd platform serve --password-file uws.password --account 0212345678-00001 --account 0212345678-00002
  callbackd platform serve --password-file uws.password --profile observed --ack envelope --clock 60`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return s.run(cmd.Context()) },
	}
	profiles, rules := profileNames(), ackRuleNames()
	flags := c.Flags()
	flags.StringVar(&s.listen, "listen", platform.DefaultListen, "address for SOAP and control")
	flags.BoolVar(&s.expose, "expose", false, "allow an address that other machines reach; passwords travel there unencrypted")
	flags.StringArrayVar(&s.accounts, "account", []string{"0212345678-00001"}, "name of an account; repeatable")
	flags.StringVar(&s.username, "username", "simulator", "user name of the log-in, for all accounts")
	flags.StringVar(&s.passwordFile, "password-file", "", "file with the password of the log-in (default: $"+platformPassword+")")
	flags.StringVar(&s.profile, "profile", profiles[0], "rules to send by: "+strings.Join(profiles, " or "))
	flags.StringVar(&s.ack, "ack", "", "answers to take for an acknowledgement: "+strings.Join(rules, ", ")+" (default: the profile's)")
	flags.Float64Var(&s.clock, "clock", 1, "how many times `faster` pauses pass, such as the 5 minutes before a retry; never the 4 s for an answer")
	flags.Uint64Var(&s.seed, "seed", 1, "seed of what is random in sending")
	flags.BoolVar(&s.strictPorts, "strict-ports", false, "refuse loopback URLs too whose port the platform does not take")
	flags.BoolVar(&s.listPasswords, "list-passwords", false, "list registrations with their passwords, as the platform's REST interface does")
	flags.StringVar(&s.caFile, "ca-file", "", "trust the certificates in this file besides the system's")
	complete(c, "profile", profiles)
	complete(c, "ack", rules)
	return c
}

func profileNames() []string {
	return names(platform.Profiles(), func(p platform.Profile) string { return p.Name })
}

func ackRuleNames() []string {
	return names(platform.AckRules(), func(r platform.AckRule) string { return string(r) })
}

func names[T, U any](list []T, name func(T) U) []U {
	var all []U
	for _, v := range list {
		all = append(all, name(v))
	}
	return all
}

func (s *simulation) run(ctx context.Context) error {
	o, err := s.options()
	if err != nil {
		return err
	}
	if o.Log, err = app.NewLogger(config.Log{Level: "info", Format: "console"}, s.err); err != nil {
		return err
	}
	defer func() { _ = o.Log.Sync() }() // a terminal cannot be synced
	simulator, err := platform.New(o)
	if err != nil {
		return &usageError{err}
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", s.listen)
	if err != nil {
		return err
	}
	s.welcome(l.Addr().String(), o)
	return simulator.Serve(ctx, l)
}

func (s *simulation) options() (platform.Options, error) {
	if err := s.checkListen(); err != nil {
		return platform.Options{}, err
	}
	password, err := s.password()
	if err != nil {
		return platform.Options{}, err
	}
	o := platform.Options{Seed: s.seed, Clock: s.clock, StrictPorts: s.strictPorts, ListPasswords: s.listPasswords}
	if !(s.clock > 0) {
		return o, usagef("--clock has to be above 0")
	}
	for _, name := range s.accounts {
		o.Accounts = append(o.Accounts, platform.Account{Name: name, Login: platform.Credentials{Username: s.username, Password: password}})
	}
	i := slices.Index(profileNames(), s.profile)
	if i < 0 {
		return o, usagef("--profile %q is none of %s", s.profile, strings.Join(profileNames(), ", "))
	}
	o.Profile = platform.Profiles()[i]
	if s.ack != "" {
		if o.Profile.Ack = platform.AckRule(s.ack); !slices.Contains(platform.AckRules(), o.Profile.Ack) {
			return o, usagef("--ack %q is none of %s", s.ack, strings.Join(ackRuleNames(), ", "))
		}
	}
	if s.caFile != "" {
		o.RootCAs, err = rootsWith(s.caFile)
	}
	return o, err
}

// checkListen wants an address that only this machine reaches, unless another is meant.
func (s *simulation) checkListen() error {
	host, _, err := net.SplitHostPort(s.listen)
	if err != nil {
		return usagef("--listen is no address such as %s: %w", platform.DefaultListen, err)
	}
	ip, err := netip.ParseAddr(host)
	if loopback := host == "localhost" || err == nil && ip.IsLoopback(); !loopback && !s.expose {
		return usagef("--listen %s is reached by other machines, and passwords would travel unencrypted: allow that with --expose", s.listen)
	}
	return nil
}

// password is that of the log-in. Flags do not bear it, for everybody on the machine can read them.
func (s *simulation) password() (string, error) {
	if s.passwordFile == "" {
		s.passwordSource = "uws_password_env: " + platformPassword
		if password := os.Getenv(platformPassword); password != "" {
			return password, nil
		}
		return "", usagef("give the log-in a password, in $%s or in a file: --password-file", platformPassword)
	}
	path, err := filepath.Abs(s.passwordFile)
	if err != nil {
		return "", err
	}
	s.passwordSource = fmt.Sprintf("uws_password_file: %q", path)
	text, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	password := strings.TrimRight(string(text), "\r\n")
	if password == "" || strings.ContainsAny(password, "\r\n") {
		return "", usagef("--password-file %s does not hold one line", path)
	}
	return password, nil
}

// rootsWith are the system's certificates and those in a file.
func rootsWith(file string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM(pem) {
		return nil, usagef("--ca-file %s holds no certificate", file)
	}
	return pool, nil
}

// welcome says what to do with it.
func (s *simulation) welcome(address string, o platform.Options) {
	fmt.Fprintf(s.out, "A simulator of the platform, profile %s, ack %s. Its state is in memory, and ends with it.\n\n"+
		"In callbackd.yaml, with the label of your own credentials for main, and a public_url for each service, such as http://127.0.0.1:28204/:\n\n"+
		"platform:\n  url: http://%s/api/v2\naccounts:\n", o.Profile.Name, o.Profile.Ack, address)
	for _, a := range o.Accounts {
		fmt.Fprintf(s.out, "  - name: %q\n    credentials: main\n    uws_username: %q\n    %s\n", a.Name, a.Login.Username, s.passwordSource)
	}
	at := ""
	if address != platform.DefaultListen {
		at = " --platform http://" + address
	}
	with := ""
	if s.passwordFile == "" {
		with = ", where $" + platformPassword + " is the same"
	}
	fmt.Fprintf(s.out, "\nThen, from another terminal%[3]s:\n\n"+
		"  %[1]s registrations apply --config callbackd.yaml\n"+
		"  %[1]s platform send --service DeviceUsage%[2]s\n"+
		"  %[1]s platform status%[2]s\n\n"+
		"Ctrl-C stops it.\n", programName(), at, with)
}

// remote adds the flag --platform to a command of a running simulator, and returns what opens it.
func remote(c *cobra.Command) func() (*platform.Remote, error) {
	address := c.Flags().String("platform", "http://"+platform.DefaultListen, "`URL` of the simulator")
	return func() (*platform.Remote, error) {
		r, err := platform.NewRemote(*address)
		if err != nil {
			return nil, usagef("--platform: %w", err)
		}
		return r, nil
	}
}

func (e *env) platformSMS() *cobra.Command {
	var m platform.SMS
	c := &cobra.Command{
		Use:   "sms TEXT",
		Short: "Have a device send an SMS",
		Long: "Have a device send an SMS through the running simulator, to the listener of EnhancedConnectivityService. If there is none, or it does\n" +
			"not acknowledge, the SMS waits in the simulator's queue until `registrations start-sms`; it is never sent again by itself.",
		Example: `  callbackd platform sms 'door open'
  callbackd platform sms --from 5125550100 --account 0212345678-00001 'door open'`,
		Args: cobra.ExactArgs(1),
	}
	c.Flags().StringVar(&m.Account, "account", "", "the device's account (default: the first)")
	c.Flags().StringVar(&m.MDN, "from", "5125550100", "telephone number of the device")
	open := remote(c)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		r, err := open()
		if err != nil {
			return err
		}
		defer r.Close()
		m.Text = args[0]
		delivered, err := r.SendSMS(cmd.Context(), m)
		switch {
		case err != nil:
			return err
		case delivered:
			fmt.Fprintln(e.out, "acknowledged")
		default:
			fmt.Fprintln(e.out, "queued: it waits for `registrations start-sms`")
		}
		return nil
	}
	return c
}

// status is what `platform status` prints.
type status struct {
	Registrations []platform.Registration `json:"registrations"`
	LogIns        platform.LogIns         `json:"log_ins"`
	SMS           []platform.SMSQueue     `json:"sms"`
	Archived      int                     `json:"archived"`
}

func (e *env) platformStatus() *cobra.Command {
	c := &cobra.Command{
		Use:   "status",
		Short: "Show what the running simulator holds",
		Long: "Show what the running simulator holds: registrations, how often each user logged in and was refused, SMS that wait for\n" +
			"StartSmsCallback, and how many messages are in the archive.",
		Example: `  callbackd platform status
  callbackd platform status -o json`,
		Args: cobra.NoArgs,
	}
	format, open := output(c), remote(c)
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		r, err := open()
		if err != nil {
			return err
		}
		defer r.Close()
		s, err := look(cmd.Context(), r)
		if err != nil {
			return err
		}
		return e.print(*format, s, s.table)
	}
	return c
}

// look asks a simulator for all that it holds.
func look(ctx context.Context, r *platform.Remote) (s status, err error) {
	var errs [4]error
	s.Registrations, errs[0] = r.Registrations(ctx)
	s.LogIns, errs[1] = r.LogIns(ctx)
	s.SMS, errs[2] = r.SMSQueues(ctx)
	archive, err := r.Archive(ctx)
	s.Archived, errs[3] = len(archive), err
	return s, cmp.Or(errs[:]...)
}

func (s status) table(w io.Writer) {
	row(w, "ACCOUNT", "SERVICE", "URL", "USERNAME")
	for _, n := range s.Registrations {
		row(w, n.Account, n.Service, n.URL, n.Credentials.Username)
	}
	row(w)
	row(w, "LOG-IN", "ACCEPTED", "REFUSED", "LOCKED")
	for _, u := range s.LogIns.Users {
		row(w, u.Username, u.Accepted, u.Refused, u.Locked)
	}
	row(w, "(nobody's)", 0, s.LogIns.Unknown, "")
	row(w)
	row(w, "SMS OF", "WAITING", "DROPPED")
	for _, q := range s.SMS {
		row(w, q.Account, q.Waiting, q.Dropped)
	}
	row(w)
	row(w, "ARCHIVED", s.Archived)
}
