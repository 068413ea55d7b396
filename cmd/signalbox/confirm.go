package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"signalbox"
	"signalbox/admin"
)

// addYes gives a verb the flag with which it does not ask.
func addYes(cmd *cobra.Command, to *bool) {
	addSwitch(cmd.Flags(), to, "yes", "do it without asking, as scripts must")
}

// confirm asks whether to go on. What is to be done stands on standard output already.
func (p *program) confirm(ctx context.Context, yes bool, question, verb string) error {
	if yes {
		return nil
	}
	if !onTerminal(p.stdin) {
		return &exitError{
			code: exitUsage, err: errors.New("nothing was done: this asks before it acts, and standard input is no terminal"),
			try: verb + " --yes",
		}
	}
	return p.ask(ctx, question)
}

// ask asks a question on standard error; anything but yes ends the verb.
func (p *program) ask(ctx context.Context, question string) error {
	fmt.Fprintf(p.stderr, "\n%s [y/N] ", question)
	said := make(chan string, 1)
	go func() {
		line, err := bufio.NewReader(io.LimitReader(p.stdin, 1000)).ReadString('\n')
		if err != nil {
			fmt.Fprintln(p.stderr)
		}
		said <- strings.ToLower(strings.TrimSpace(line))
	}()
	select {
	case answer := <-said:
		if answer == "y" || answer == "yes" {
			return nil
		}
		return &exitError{code: exitFindings, err: errors.New("nothing was done")}
	case <-ctx.Done():
		fmt.Fprintln(p.stderr)
		return ctx.Err()
	}
}

// printDone says what an order led to.
func (p *program) printDone(d admin.Done, what, then string) error {
	how := howText(admin.Change{Commands: d.Commands, Reloaded: d.Reloaded, Reasons: d.Reasons})
	if d.Commands == 0 && !d.Reloaded {
		how = "HAProxy had nothing to do"
	} else {
		how += " in " + span(d.TookSeconds)
	}
	if d.Warning != "" {
		fmt.Fprintln(p.stderr, "warning: "+clean(d.Warning))
	}
	return p.folding(func() error {
		fmt.Fprintf(p.stdout, "%s: %s; generation %d runs\n", clean(what), how, d.Generation)
		if then != "" {
			fmt.Fprintln(p.stdout, clean(then))
		}
		return nil
	})
}

// holdName names what a hold is of: "everything", "/shop".
func holdName(app string) string { return signalbox.Hold{App: app}.String() }
