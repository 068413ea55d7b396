package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"signalbox"
	"signalbox/devcluster"
)

// The times of signalbox dev.
const (
	devReady  = time.Minute     // until the first answers
	devSettle = 5 * time.Second // for the last records to arrive
)

// dev is one run of signalbox dev: a cluster, the controller, apps and traffic on this machine.
type dev struct {
	*program
	apps    string        // directory of the person's own apps, "" for the demo
	rate    float64       // requests a second, 0 for none
	span    time.Duration // 0: until Ctrl-C
	emulate string
	agents  int
	verbose bool

	dir        string
	lock       *os.File // held for as long as the process lives
	journal    *journal
	cluster    *devcluster.Server
	controller *controller
	tenants    tenants
	httpAddr   string
	httpsAddr  string // with a certificate that only curl -k takes
}

func newDevCommand(p *program) *cobra.Command {
	d := &dev{program: p, rate: 200, emulate: "1.11", agents: 3}
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "A whole cluster on this machine: Marathon, HAProxy, the controller, apps, traffic",
		Long: `Starts a Marathon-compatible API whose tasks are local processes, a real HAProxy, the controller that also runs in production,
demo apps that call each other, and traffic for them. Everything listens on loopback; Ctrl-C ends it, and leaves nothing.

With --apps it runs the apps of a directory instead: each *.json file holds an app, a list of apps, or a group, as one would post
it to Marathon. Ports that are taken are replaced by free ones; what is printed is what holds.`,
		Example: `  signalbox dev                            the demo
  signalbox dev --apps ./my-apps --load 0  my own apps, without traffic
  signalbox dev --for 20s                  ends by itself, with 1 if counts differ or a record was lost`,
		GroupID: groupRun,
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return d.run(cmd.Context()) },
	}
	f := cmd.Flags()
	f.Var(textOf(&d.apps), "apps", "`directory` with the apps to run instead of the demo")
	f.Float64Var(&d.rate, "load", d.rate, "`requests` a second of traffic; 0 for none")
	f.Var(durationOf(&d.span, 0, 24*time.Hour), "for", "`time` after which it ends by itself; 0: by Ctrl-C")
	f.Var(oneOf(&d.emulate, "1.4", "1.11"), "emulate", "Marathon's `version`")
	f.Var(intOf(&d.agents, 1, 200), "agents", "`number` of simulated slaves, on 127.0.0.2 and so on")
	addSwitch(f, &d.verbose, "verbose", "log what the controller and the cluster do")
	return cmd
}

// run starts everything, waits, and ends everything.
func (d *dev) run(ctx context.Context) (err error) {
	files, err := d.appFiles()
	if err != nil {
		return err
	}
	if err := d.claim(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(d.dir)) }()
	if d.journal, err = newJournal(d.stderr, "debug", "auto"); err != nil {
		return err
	}
	if !d.verbose {
		d.journal.quiet()
	}

	if d.cluster, err = d.startCluster(ctx); err != nil {
		return err
	}
	defer func() {
		ended := d.tasks()
		err = errors.Join(err, d.cluster.Close())
		if err == nil {
			fmt.Fprintf(d.stdout, "  ended     %d tasks, nothing is left\n", ended)
		}
	}()

	s, err := d.settings()
	if err != nil {
		return err
	}
	if s.derived, err = d.env.derived(); err != nil {
		return err
	}
	if d.controller, err = newController(s, d.journal, lifetime{grace: time.Second, dieWithParent: true}); err != nil {
		return err
	}
	d.controller.taking = d.take
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	g, running := errgroup.WithContext(running)
	g.Go(func() error { return d.controller.run(running) })
	defer func() {
		stop()
		err = errors.Join(err, g.Wait())
	}()

	posted, err := d.post(ctx, files)
	if err != nil {
		return err
	}
	if err := d.await(ctx, running, posted); err != nil {
		return err
	}
	if err := d.folding(func() error { d.printScreen(); return nil }); err != nil {
		return err
	}
	return d.traffic(ctx, running)
}

// claim takes the directory of this user's signalbox dev, and clears what a killed one left.
func (d *dev) claim() error {
	var dir string
	for {
		var err error
		if dir, err = devDirectory(); err != nil {
			return &exitError{code: exitUsage, err: err}
		}
		lock, err := os.Open(dir) // the lock goes with the process
		if err != nil {
			return fmt.Errorf("locking the directory of signalbox dev: %w", err)
		}
		if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
			return errors.Join(usageError("another signalbox dev of this user runs already, in %s", dir), lock.Close())
		}
		locked, err := lock.Stat()
		if err != nil {
			return fmt.Errorf("locking the directory of signalbox dev: %w", err)
		}
		// One that has just ended may have removed it in between.
		if now, err := os.Stat(dir); err == nil && os.SameFile(locked, now) {
			d.lock = lock
			break
		}
		if err := lock.Close(); err != nil {
			return fmt.Errorf("locking the directory of signalbox dev: %w", err)
		}
	}
	old, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("clearing the directory of signalbox dev: %w", err)
	}
	for _, e := range old {
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return fmt.Errorf("clearing the directory of signalbox dev: %w", err)
		}
	}
	d.dir = dir
	return nil
}

// startCluster starts the Marathon of this run.
func (d *dev) startCluster(ctx context.Context) (*devcluster.Server, error) {
	var agents []string
	for i := range d.agents {
		agents = append(agents, fmt.Sprintf("127.0.0.%d", i+2))
	}
	listen, err := freeAddress(8080)
	if err != nil {
		return nil, err
	}
	c, err := devcluster.Start(context.WithoutCancel(ctx), devcluster.Config{
		Listen: listen, Emulate: d.emulate, Agents: agents, Dir: filepath.Join(d.dir, "cluster"), TaskKilling: true,
		Log: d.journal.WithField("room", "devcluster"),
	})
	if err != nil {
		return nil, fmt.Errorf("starting the dev cluster: %w", err)
	}
	return c, nil
}

// settings returns those of a controller for this machine alone.
func (d *dev) settings() (*settings, error) {
	http, err := freeAddress(8000)
	if err != nil {
		return nil, err
	}
	admin, err := freeAddress(9901)
	if err != nil {
		return nil, err
	}
	https, err := freeAddress(8443)
	if err != nil {
		return nil, err
	}
	d.httpAddr, d.httpsAddr = http, https
	s := defaults()
	s.Marathon = []string{d.cluster.URL()}
	s.AllowLoopback = true
	s.StateDir = filepath.Join(d.dir, "state")
	s.HTTPBind, s.HTTPSBind = []string{http}, []string{https}
	s.ServiceBind = "127.0.0.1"
	s.Admin = []string{admin, "unix:" + filepath.Join(d.dir, "admin.sock")}
	s.HardStopAfter = 10 * time.Second
	return &s, nil
}

// freeAddress returns an address of loopback with a port, or with another one if that is taken. It is reserved among all processes of
// signalbox for as long as this one lives: HAProxy shares a port silently with another HAProxy that takes it at the same time.
func freeAddress(port int) (string, error) {
	for _, p := range []int{port, 0, 0, 0} {
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(p)))
		if err != nil {
			continue
		}
		addr := l.Addr().String()
		if err := errors.Join(reserve("@signalbox-"+addr), l.Close()); err == nil {
			return addr, nil
		}
	}
	return "", errors.New("no free port on 127.0.0.1")
}

// reserve takes a name in the abstract namespace of sockets, which leaves no file and goes with the process.
func reserve(name string) error {
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("reserving an address: %w", err)
	}
	if err := syscall.Bind(fd, &syscall.SockaddrUnix{Name: name}); err != nil {
		return errors.Join(fmt.Errorf("reserving an address: %w", err), syscall.Close(fd))
	}
	return nil
}

// await waits until every service with a route answers, by whatever its app says.
func (d *dev) await(ctx, running context.Context, posted []devApp) error {
	ctx, cancel := context.WithTimeout(ctx, devReady)
	defer cancel()
	for {
		missing := d.missing(ctx, posted)
		if len(missing) == 0 {
			return nil
		}
		select {
		case <-running.Done():
			return errors.New("the controller ended early: its errors stand above")
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.Canceled) {
				return ctx.Err()
			}
			fmt.Fprintf(d.stderr, "warning: after %s these apps have no running task with a route: %s (signalbox routes says why)\n",
				devReady, strings.Join(missing, ", "))
			return nil
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// missing returns the apps without a task that Marathon and HAProxy both take for healthy. It asks no app: a request of its own would
// stand in the counts.
func (d *dev) missing(ctx context.Context, posted []devApp) []string {
	up := map[string]bool{}
	usable := d.usable(ctx)
	if table := d.controller.table(); table != nil {
		for _, s := range table.Services {
			healthy := slices.ContainsFunc(s.Endpoints, func(e signalbox.Endpoint) bool { return e.State == signalbox.Up })
			up[s.App] = up[s.App] || healthy && usable[s.ID]
		}
	}
	var out []string
	for _, app := range posted {
		if app.Instances > 0 && !app.docker && !up[app.ID] {
			out = append(out, app.ID)
		}
	}
	return out
}

// usable returns the services of which HAProxy itself takes a server for up.
func (d *dev) usable(ctx context.Context) map[signalbox.ServiceID]bool {
	running := d.controller.applier.Running()
	if running == nil {
		return nil
	}
	out := map[signalbox.ServiceID]bool{}
	_, stats := d.stats(ctx)
	for _, s := range stats {
		if be := running.Backend(s.Proxy); be != nil && !be.Retired && s.Server != "BACKEND" && s.Server != "FRONTEND" {
			out[be.Service] = out[be.Service] || s.Status == "UP" || s.Status == "no check"
		}
	}
	return out
}

// printScreen says where everything is.
func (d *dev) printScreen() {
	status := d.controller.status()
	apps, tasks := status.Table.Counts()
	row := func(name, where, what string) {
		fmt.Fprintln(d.stdout, strings.TrimRight(fmt.Sprintf("  %-9s %-28s %s", name, where, clean(what)), " "))
	}
	row("marathon", d.cluster.URL(), fmt.Sprintf("%d apps, %d tasks as local processes", apps, tasks))
	row("haproxy", "http://"+d.httpAddr, "HAProxy "+status.HAProxy.Version)
	row("", "https://"+d.httpsAddr, "with a certificate of its own making: curl -k")
	row("admin", d.controller.admin.LoginURL(), "")
	var hosts []string
	try := ""
	for _, s := range status.Table.Services {
		for _, r := range s.Routes {
			hosts = append(hosts, strings.TrimSuffix(r.String(), "/"))
			if r.Host == "shop.local" || try == "" && len(s.Endpoints) > 0 && r.Host != "" && r.Path == "/" {
				try = strings.Replace(r.Host, "*", "any", 1)
			}
		}
	}
	slices.Sort(hosts)
	if len(hosts) > 0 {
		row("routes", strings.Join(hosts, " "), "")
	}
	if d.rate > 0 && len(hosts) > 0 {
		row("load", fmt.Sprintf("%g requests/s", d.rate), "(--load 0 for none)")
	}
	explained := ""
	if try != "" {
		explained = fmt.Sprintf("    %s explain %s", os.Args[0], try)
		try = fmt.Sprintf("curl -H 'Host: %s' http://%s/\n        ", try, d.httpAddr)
	}
	fmt.Fprintf(d.stdout, "  try:  %s%s routes    %[2]s top    %[2]s health%s\n", try, os.Args[0], explained)
}

// tasks returns how many tasks the table has.
func (d *dev) tasks() int {
	if d.controller == nil {
		return 0
	}
	_, tasks := d.controller.table().Counts()
	return tasks
}
