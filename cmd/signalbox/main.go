// Command signalbox stands on every Mesos slave: it routes by hostname what Marathon runs, through a local HAProxy, and counts
// every request that passes.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"signalbox/admin"
)

// The exit codes of every verb.
const (
	exitOK          = 0
	exitFindings    = 1   // it did its work, and found something that somebody should look at
	exitUsage       = 2   // the command line or the environment is wrong
	exitUnreachable = 3   // the controller or Marathon can't be reached, or can't answer
	exitInternal    = 4   // a defect of the program
	exitInterrupted = 130 // by a signal
)

// exitError is an error with the exit code that it leads to.
type exitError struct {
	code int
	err  error
	try  string // what to do, a command line if possible; or ""
}

// Error implements error.
func (e *exitError) Error() string { return e.err.Error() }

// Unwrap returns the error that the code was given to.
func (e *exitError) Unwrap() error { return e.err }

func usageError(format string, args ...any) error {
	return &exitError{code: exitUsage, err: fmt.Errorf(format, args...)}
}

// errFindings ends a verb with exit code 1 once it has printed what it found.
var errFindings = &exitError{code: exitFindings}

func main() {
	os.Exit(run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// program is what the verbs share.
type program struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	env            environment
	origins        map[string]origin // of the flags of the verb that runs
	started        bool              // a verb runs: the command line is right
	verbs          []func(*program) *cobra.Command

	// offline renders the configuration that run would produce now, without a controller. Nil: there is no such way.
	offline func(context.Context, *settings) ([]admin.File, error)
}

// oneSignal is for how long several signals count as one: a wrapper may pass on what the terminal has sent already.
const oneSignal = 2 * time.Second

// run is the program: it returns its exit code. SIGINT and SIGTERM end the context; a second one, later, ends the process.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) (code int) {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, func() { time.AfterFunc(oneSignal, stop) })
	p := &program{stdin: stdin, stdout: stdout, stderr: stderr, env: readEnvironment(os.Environ()), offline: renderOffline}
	p.verbs = allVerbs()
	return p.run(ctx, args)
}

// allVerbs lists the verbs.
func allVerbs() []func(*program) *cobra.Command {
	return []func(*program) *cobra.Command{
		newRunCommand, newHubCommand, newDevCommand, newClusterCommand,
		newRoutesCommand, newExplainCommand, newWhyCommand, newStatCommand, newTopCommand, newTailCommand, newHistoryCommand, newReplayCommand, newHealthCommand, newConvergedCommand,
		newLintCommand, newDiffCommand, newMigrateCommand, newRenderCommand, newConfigCommand,
		newHoldCommand, newRollbackCommand, newAcceptCommand, newInitCommand, newVersionCommand, newDemoServiceCommand,
	}
}

func (p *program) run(ctx context.Context, args []string) (code int) {
	defer func() {
		if r := recover(); r != nil {
			fmt.Fprintf(p.stderr, "error: a defect of signalbox: %v\n%s", r, debug.Stack())
			code = exitInternal
		}
	}()
	root := p.command()
	root.SetArgs(singleDash(args))
	err := root.ExecuteContext(ctx)
	return p.report(ctx, err)
}

// singleDash maps the words with one dash, which deployment tools rely on, to verbs.
func singleDash(args []string) []string {
	if len(args) == 0 {
		return args
	}
	verb := map[string]string{
		"-v": "version", "-version": "version", "--version": "version", "-init": "init", "--init": "init", "-help": "help",
	}[args[0]]
	if verb == "" {
		return args
	}
	return append([]string{verb}, args[1:]...)
}

// report prints an error and returns the exit code.
func (p *program) report(ctx context.Context, err error) int {
	var exit *exitError
	switch {
	case err == nil:
		return exitOK
	case ctx.Err() != nil && errors.Is(err, ctx.Err()):
		return exitInterrupted
	case errors.As(err, &exit):
	case errors.Is(err, admin.ErrUnreachable):
		exit = &exitError{code: exitUnreachable, err: err, try: "signalbox run to start one, or --admin with the address of the one that runs"}
	case errors.Is(err, admin.ErrConflict):
		exit = &exitError{code: exitFindings, err: err}
	case errors.Is(err, admin.ErrUnknown):
		exit = &exitError{code: exitFindings, err: err, try: "signalbox routes --all"}
	case errors.Is(err, admin.ErrFailed):
		exit = &exitError{code: exitUnreachable, err: err, try: "signalbox health"}
	case errors.Is(err, admin.ErrRefused):
		exit = &exitError{code: exitUsage, err: err, try: "--admin-token-file with the file that the controller uses, as a user who may read it"}
	case !p.started:
		exit = &exitError{code: exitUsage, err: err, try: "signalbox --help"}
	default:
		exit = &exitError{code: exitInternal, err: err}
	}
	if exit.err != nil {
		text := strings.TrimSpace(exit.Error())
		fmt.Fprintln(p.stderr, "error: "+strings.ReplaceAll(text, "\n", "\n       "))
		if exit.try != "" {
			fmt.Fprintln(p.stderr, "  try: "+exit.try)
		}
	}
	return exit.code
}

// The groups of verbs in the help.
const (
	groupRun     = "run"
	groupLook    = "look"
	groupCheck   = "check"
	groupOperate = "operate"
)

func (p *program) command() *cobra.Command {
	root := &cobra.Command{
		Use:   "signalbox",
		Short: "Routes what Marathon runs, by hostname, through a local HAProxy, and counts every request",
		Long: `signalbox routes what Marathon runs, by hostname, through a local HAProxy, and counts every request.

Every flag has a variable: --marathon-user is SIGNALBOX_MARATHON_USER. A flag goes before a variable, a variable before the
default; "signalbox config" prints each value and where it comes from. Secrets are read from files only.

The verbs that look ask the controller at --admin; without it the one that systemd started, else this user's "signalbox dev".

Exit codes: 0 ok, 1 something was found, 2 wrong usage or environment, 3 the controller or Marathon can't be reached,
4 a defect of the program, 130 interrupted.`,
		Example: `  signalbox dev                                        a whole cluster on this machine, with traffic
  signalbox run --marathon http://10.0.0.1:8080        the controller of one machine
  signalbox routes shop.local                          what answers there, and what is wrong with it`,
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := cmd.Help(); err != nil {
				return err
			}
			return &exitError{code: exitUsage}
		},
		// Runs before each verb, once its command line is known to be right.
		PersistentPreRunE: p.prepare,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return &exitError{code: exitUsage, err: err, try: cmd.CommandPath() + " --help"}
	})
	root.SetIn(p.stdin)
	root.SetOut(p.stdout)
	root.SetErr(p.stderr)
	root.AddGroup(
		&cobra.Group{ID: groupRun, Title: "Run:"},
		&cobra.Group{ID: groupLook, Title: "Look:"},
		&cobra.Group{ID: groupCheck, Title: "Check:"},
		&cobra.Group{ID: groupOperate, Title: "Operate:"},
	)
	root.SetHelpCommandGroupID(groupOperate)
	for _, verb := range p.verbs {
		root.AddCommand(verb(p))
	}
	return root
}

// prepare gives flags that the command line doesn't set the values of their variables.
func (p *program) prepare(cmd *cobra.Command, _ []string) error {
	strays, err := p.env.check(cmd.Root())
	if err != nil {
		return err
	}
	if cmd.Name() != "config" { // there they are findings
		for _, s := range strays {
			fmt.Fprintln(p.stderr, "warning: "+s.String())
		}
	}
	if p.origins, err = p.env.apply(cmd.Flags()); err != nil {
		return err
	}
	p.started = true
	return nil
}
