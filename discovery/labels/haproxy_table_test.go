package labels

import (
	"slices"
	"strings"
	"testing"
)

// Every label that is read is documented, every one that is documented is read, and what it comes to are native labels.
func TestMarathonLBIsDocumented(t *testing.T) {
	documented := map[string]bool{}
	for _, l := range MarathonLB() {
		documented[l.Name] = true
		if l.Meaning == "" || !strings.HasSuffix(l.Meaning, ".") || l.Deviation != "" && !strings.HasSuffix(l.Deviation, ".") {
			t.Errorf("%s has no sentence: %q, %q", l.Name, l.Meaning, l.Deviation)
		}
		for _, key := range l.Native {
			if row(key) == nil {
				t.Errorf("%s names the native label %q, which there is not", l.Name, key)
			}
		}
		name := strings.Replace(l.Name, "_N_", "_0_", 1)
		if claims, bad, mine := readMarathonLB(name, "x"); !mine || bad != nil || len(claims) != 1 {
			t.Errorf("%s is documented and not read: %v", name, bad)
		}
	}
	for _, name := range slices.Concat(behaviours, allTemplates) {
		group := slices.Contains(frontendTemplates, name) || slices.Contains(deadTemplates, name) // one row for all of them
		if !documented["HAPROXY_N_"+name] && !group {
			t.Errorf("HAPROXY_N_%s is read and not documented", name)
		}
	}
	for _, name := range deploymentLabels {
		if !documented["HAPROXY_"+name] {
			t.Errorf("HAPROXY_%s is read and not documented", name)
		}
	}
}

// A row that reads a label asks for labels that the table has.
func TestTranslationsAskForNativeLabels(t *testing.T) {
	for i := range marathonLBLabels {
		l := &marathonLBLabels[i]
		if l.App {
			continue
		}
		p := Parse("/app", map[string]string{"HAPROXY_0_VHOST": "a.com", "HAPROXY_0_" + l.Name: "1"}, twoPorts, Options{}).Ports[0]
		for _, c := range p.claims {
			if c.key != "" && row(c.key) == nil {
				t.Errorf("%s asks for %q", l.Name, c.key)
			}
		}
	}
}
