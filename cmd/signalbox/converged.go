package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"signalbox/admin"
)

// convergence is what is asked of a fleet.
type convergence struct {
	app, version string
	gone, only   bool
}

// nodeAnswer is what one node says, or why it says nothing.
type nodeAnswer struct {
	Node    string         `json:"node"`
	Has     bool           `json:"converged"`
	Why     string         `json:"why,omitempty"` // it has not
	Applied *admin.Applied `json:"applied,omitempty"`
}

// convergedAnswer is what the verb prints as JSON.
type convergedAnswer struct {
	APIVersion string       `json:"apiVersion"`
	App        string       `json:"app"`
	Converged  bool         `json:"converged"`
	Nodes      []nodeAnswer `json:"nodes"`
}

func newConvergedCommand(p *program) *cobra.Command {
	var q convergence
	var nodes []string
	var tokenFile, output string
	wait := time.Minute
	cmd := &cobra.Command{
		Use:   "converged APP",
		Short: "Whether every node's HAProxy does what Marathon says of an app",
		Long: `Asks every node, at the address that it gives other machines with --metrics-listen, until each says that its HAProxy runs the present
definition of the app, and all have the same definition and the same tasks. A node that does not answer has not converged.

It ends with 0 once all have converged, and with 1 if they have not within --wait. --wait 0s asks once.`,
		Example: `  signalbox converged /shop --nodes http://slave-1:9902,http://slave-2:9902
  signalbox converged /shop --version 2026-03-02T12:00:00.000Z --only --nodes http://slave-1:9902,http://slave-2:9902    after a deployment
  signalbox converged /shop --gone --nodes http://slave-1:9902                                                      after its removal`,
		GroupID: groupLook,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			q.app = appOf(args[0])
			if len(nodes) == 0 {
				return usageError("--nodes: no node is given")
			}
			if q.gone && (q.version != "" || q.only) {
				return usageError("--gone: an app that is gone has no version")
			}
			clients := map[string]*admin.Client{}
			for _, node := range nodes {
				c, err := admin.NewNodeClient(node, tokenFile)
				if err != nil {
					return &exitError{code: exitUsage, err: fmt.Errorf("--nodes: %w", err)}
				}
				clients[node] = c
			}
			answer, err := untilConverged(cmd.Context(), clients, q, wait)
			if err != nil {
				return err
			}
			if output == "json" {
				err = printJSON(p.stdout, answer)
			} else {
				err = p.folding(func() error { return p.printConverged(answer) })
			}
			if err == nil && !answer.Converged {
				err = errFindings
			}
			return err
		},
	}
	addOutput(cmd, &output)
	f := cmd.Flags()
	f.Var(listOf(&nodes), "nodes", "`URLs` of every node's --metrics-listen")
	f.Var(textOf(&tokenFile), "token-file", "`file` with the token that they ask for; empty: they ask for none")
	f.Var(textOf(&q.version), "version", "`version` of the definition that they must have, as Marathon words it; empty: the same one")
	f.BoolVar(&q.only, "only", false, "no task of another version may take requests; tasks that Marathon only scaled keep theirs")
	f.BoolVar(&q.gone, "gone", false, "the app must be gone")
	f.Var(durationOf(&wait, 0, 24*time.Hour), "wait", "`time` in which they must converge")
	return cmd
}

// askAgain is how long after one round of questions the next begins, askNode how long one node may take.
const (
	askAgain = 500 * time.Millisecond
	askNode  = 5 * time.Second
)

// untilConverged asks all nodes until they have converged, or wait is over.
func untilConverged(ctx context.Context, clients map[string]*admin.Client, q convergence, wait time.Duration) (convergedAnswer, error) {
	end := time.Now().Add(wait)
	for {
		answer := judge(q, askNodes(ctx, clients, q.app))
		if answer.Converged || !time.Now().Add(askAgain).Before(end) {
			return answer, ctx.Err()
		}
		select {
		case <-ctx.Done():
			return answer, ctx.Err()
		case <-time.After(askAgain):
		}
	}
}

// askNodes asks all nodes at once and returns their answers, sorted by node.
func askNodes(ctx context.Context, clients map[string]*admin.Client, app string) []nodeAnswer {
	var mu sync.Mutex
	var wg sync.WaitGroup
	var all []nodeAnswer
	for node, c := range clients {
		wg.Go(func() {
			asking, cancel := context.WithTimeout(ctx, askNode)
			defer cancel()
			one := nodeAnswer{Node: node}
			switch a, err := c.Applied(asking, app); {
			case err == nil:
				one.Applied = &a
			case asking.Err() != nil && ctx.Err() == nil:
				one.Why = fmt.Sprintf("it does not answer within %s", askNode)
			default:
				one.Why = err.Error()
			}
			mu.Lock()
			defer mu.Unlock()
			all = append(all, one)
		})
	}
	wg.Wait()
	slices.SortFunc(all, func(a, b nodeAnswer) int { return strings.Compare(a.Node, b.Node) })
	return all
}

// judge says which nodes have what is asked, and whether all agree.
func judge(q convergence, nodes []nodeAnswer) convergedAnswer {
	out := convergedAnswer{APIVersion: admin.APIVersion, App: q.app, Converged: true, Nodes: nodes}
	newest := "" // of the versions that nodes have
	for i := range nodes {
		if a := nodes[i].Applied; a != nil {
			newest = max(newest, strings.Join(a.Versions, " "))
		}
	}
	var first *nodeAnswer // that has what is asked
	for i := range nodes {
		n := &nodes[i]
		if n.Applied != nil {
			n.Why = q.lacks(n.Applied, newest)
			if n.Why == "" && first != nil && !slices.Equal(first.Applied.Tasks, n.Applied.Tasks) {
				n.Why = "it has other tasks than " + first.Node
			}
			if n.Why == "" && first == nil {
				first = n
			}
		}
		n.Has = n.Why == ""
		out.Converged = out.Converged && n.Has
	}
	return out
}

// lacks says why a node does not have what is asked, or "". newest is the newest version that any node has.
func (q *convergence) lacks(a *admin.Applied, newest string) string {
	has := strings.Join(a.Versions, " ")
	switch {
	case q.gone && a.Known:
		return orWaits(a, "it still has the app")
	case q.gone:
		return ""
	case !a.Known:
		return "it knows no such app"
	case q.version != "" && !slices.Contains(a.Versions, q.version):
		return "it has version " + has
	case q.version == "" && has != newest:
		return "it has version " + has + ", others " + newest
	case a.Waits != "":
		return a.Waits
	}
	if q.only {
		for _, t := range a.Tasks {
			if want := q.version; t.Version != want && (want != "" || !slices.Contains(a.Versions, t.Version)) {
				return "the task " + t.Task + " of version " + t.Version + " takes requests"
			}
		}
	}
	return ""
}

func orWaits(a *admin.Applied, why string) string {
	if a.Waits != "" {
		return a.Waits
	}
	return why
}

func (p *program) printConverged(a convergedAnswer) error {
	t := newTable(p.stdout, "NODE", "CONVERGED", "GENERATION", "VERSION", "TASKS", "WHY NOT")
	for _, n := range a.Nodes {
		generation, version, tasks := "", "", ""
		if n.Applied != nil {
			generation, version, tasks = fmt.Sprint(n.Applied.Generation), strings.Join(n.Applied.Versions, " "), fmt.Sprint(len(n.Applied.Tasks))
		}
		t.row(n.Node, map[bool]string{true: "yes", false: "no"}[n.Has], generation, version, tasks, n.Why)
	}
	return t.flush()
}
