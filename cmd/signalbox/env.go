package main

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"signalbox/metrics"
)

// envPrefix begins every variable that the program reads as a setting.
const envPrefix = "SIGNALBOX_"

// variable returns the variable of a flag: "marathon-user" is SIGNALBOX_MARATHON_USER.
func variable(flag string) string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// origin says where a value comes from.
type origin string

const (
	fromFlag        origin = "flag"
	fromEnvironment origin = "environment"
	fromDefault     origin = "default"
)

// environment is the SIGNALBOX_ part of a process' environment. An empty variable counts as unset.
type environment map[string]string

func readEnvironment(environ []string) environment {
	env := environment{}
	for _, e := range environ {
		if name, value, _ := strings.Cut(e, "="); strings.HasPrefix(name, envPrefix) && value != "" {
			env[name] = value
		}
	}
	return env
}

// apply sets every flag that the command line didn't from its variable, and returns where each value comes from.
// Values are kept out of errors: a mistyped variable may hold a secret.
func (env environment) apply(fs *pflag.FlagSet) (map[string]origin, error) {
	origins := map[string]origin{}
	var errs []error
	fs.VisitAll(func(f *pflag.Flag) {
		value, set := env[variable(f.Name)]
		switch {
		case f.Changed:
			origins[f.Name] = fromFlag
		case set && !unbound(f.Name):
			origins[f.Name] = fromEnvironment
			if err := f.Value.Set(value); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", variable(f.Name), err))
			}
		default:
			origins[f.Name] = fromDefault
		}
	})
	return origins, errors.Join(errs...)
}

// unbound flags ask for something once and have no variable.
func unbound(flag string) bool { return flag == "help" || flag == "version" }

// stray is a variable that no flag reads.
type stray struct {
	Variable   string `json:"variable"`
	DidYouMean string `json:"didYouMean,omitempty"`
}

// String returns the warning's text.
func (s stray) String() string {
	if s.DidYouMean == "" {
		return s.Variable + " is no variable of signalbox"
	}
	return s.Variable + " is no variable of signalbox; did you mean " + s.DidYouMean + "?"
}

// check returns the variables that no flag of any command reads, sorted. A secret that stands in a variable itself is an error:
// the environment of a process is read by more than the process.
func (env environment) check(root *cobra.Command) ([]stray, error) {
	known := map[string]bool{}
	walk(root, func(c *cobra.Command) {
		c.Flags().VisitAll(func(f *pflag.Flag) {
			if !unbound(f.Name) {
				known[variable(f.Name)] = true
			}
		})
	})
	var strays []stray
	var errs []error
	for name := range env {
		switch {
		case known[name], strings.HasPrefix(name, metricPrefix):
		case known[name+"_FILE"]:
			errs = append(errs, fmt.Errorf("%s: it is read from a file only, so that nothing shows it: write it to a file and set %s_FILE to the file's path", name, name))
		default:
			strays = append(strays, stray{name, closest(name, known)})
		}
	}
	if _, err := env.derived(); err != nil {
		errs = append(errs, err)
	}
	slices.SortFunc(strays, func(a, b stray) int { return strings.Compare(a.Variable, b.Variable) })
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return strays, errors.Join(errs...)
}

// metricPrefix begins the variables of derived metrics: SIGNALBOX_METRIC_slow_checkout.
const metricPrefix = envPrefix + "METRIC_"

// derived returns the derived metrics, sorted by name.
func (env environment) derived() ([]metrics.Derived, error) {
	var all []metrics.Derived
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(env)) {
		if short, ok := strings.CutPrefix(name, metricPrefix); ok {
			d, err := metrics.ParseDerived(strings.ToLower(short), env[name])
			if err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", name, err))
			}
			all = append(all, d)
		}
	}
	if len(all) > metrics.MaxDerived {
		errs = append(errs, fmt.Errorf("%s…: %d derived metrics are more than %d", metricPrefix, len(all), metrics.MaxDerived))
	}
	return all, errors.Join(errs...)
}

func walk(c *cobra.Command, f func(*cobra.Command)) {
	f(c)
	for _, sub := range c.Commands() {
		walk(sub, f)
	}
}

// closest returns the candidate that is at most a third of a name's letters away, the nearest first, then the first by name; or "".
func closest(name string, candidates map[string]bool) string {
	best, distance := "", (len(name)-len(envPrefix))/3+1
	for c := range candidates {
		if d := editDistance(name, c); d < distance || d == distance && best != "" && c < best {
			best, distance = c, d
		}
	}
	return best
}

// editDistance is Levenshtein's: how many letters to insert, delete or replace.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j+1]+1, row[j]+1)
		}
	}
	return row[len(b)]
}
