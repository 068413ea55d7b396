package main

import "github.com/spf13/pflag"

// addSettings gives a command every flag of run, with the defaults as they stand in s, which the flags then change.
func addSettings(fs *pflag.FlagSet, s *settings) {
	addSettingsOf(fs, s, func(setting) bool { return true })
}

// addSettingsOf is addSettings for those flags only that keep wants.
func addSettingsOf(fs *pflag.FlagSet, s *settings, keep func(setting) bool) {
	for _, row := range settingTable {
		if !keep(row) {
			continue
		}
		flag := fs.VarPF(row.value(s), row.name, "", row.help)
		if flag.Value.Type() == "bool" {
			flag.NoOptDefVal = "true"
		}
	}
}

// addClientSettings gives a command the flags that lead to a running controller.
func addClientSettings(fs *pflag.FlagSet, s *settings) {
	addSettingsOf(fs, s, setting.leads)
}

// addClusterSettings gives a command the flags that lead to a hub in the place of a controller.
func addClusterSettings(fs *pflag.FlagSet, s *settings, cluster *bool) {
	addSwitch(fs, cluster, "cluster", "ask a hub about the whole cluster, the first one of --hub")
	addSettingsOf(fs, s, func(row setting) bool { return row.name == "hub" || row.name == "hub-token-file" })
}

// addSwitch gives a verb a flag that needs no value.
func addSwitch(fs *pflag.FlagSet, to *bool, name, help string) {
	fs.VarPF(boolOf(to), name, "", help).NoOptDefVal = "true"
}
