//! Real helpers, with real namespaces and a real git server on loopback. They need root; without it everything is skipped, and the
//! reason printed.
//!
//! The program of these tests is the helper's program as well, so this is a `main` and no list of `#[test]`.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::format_collect,
    reason = "tests, though not by `#[test]`"
)]

// Under the name that the rooms say.
extern crate spaceport_node as node;

use std::panic::AssertUnwindSafe;
use std::process::ExitCode;

use futures::FutureExt;
use futures::future::LocalBoxFuture;

mod archives;
mod downloads;
mod endings;
mod git_server;
mod hostile;
mod isolation;
mod memory;
mod operations;
mod prebuilds;
mod repositories;
mod stage;
mod status;

use operations::{backups, deadly, faults, housekeeping, initializers, kills, storage};

type Test = (&'static str, fn() -> LocalBoxFuture<'static, ()>);

/// Lists functions with their names.
macro_rules! tests {
    ($($module:ident :: $name:ident),* $(,)?) => {
        [$((concat!(stringify!($module), "::", stringify!($name)), || $module::$name().boxed_local())),*]
    };
}

fn main() -> ExitCode {
    if let Some(code) = node::helper::main(&archives::Probes) {
        return code;
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [first, folder] = &arguments[..]
        && first == endings::AGENT
    {
        return endings::agent(folder);
    }
    if let [first, root, store, id] = &arguments[..]
        && first == deadly::AGENT
    {
        return deadly::agent(root, store, id);
    }
    let all: &[Test] = &tests![
        archives::bytes_go_in_and_out_while_progress_is_reported,
        downloads::files_arrive_with_their_digest_and_the_owner_of_the_workspace,
        downloads::wrong_digests_sizes_and_addresses_are_refused,
        endings::a_helper_ends_at_its_deadline_with_all_its_processes,
        endings::a_helper_whose_clone_gets_no_answer_ends_at_its_deadline,
        endings::dropping_a_helper_kills_it,
        endings::a_helper_dies_with_its_agent,
        endings::a_helper_that_exits_or_panics_is_lost_with_its_last_words,
        endings::a_helper_that_takes_too_much_memory_ends_and_says_so,
        endings::what_cannot_start_says_why,
        hostile::repositories_run_nothing,
        hostile::settings_of_a_request_run_nothing,
        isolation::the_helper_sees_nothing_but_its_root_and_the_workspace,
        isolation::the_helper_has_no_capabilities_outside_and_few_inside,
        isolation::archive_work_has_no_network,
        memory::an_operation_takes_128_mib_at_most_however_many_files_there_are,
        backups::what_was_backed_up_comes_back_on_another_node_entry_by_entry,
        backups::content_that_did_not_change_is_not_stored_again,
        backups::a_head_of_another_instance_is_never_taken_for_the_own_backup,
        backups::a_restart_on_the_same_node_takes_the_folder_that_was_kept,
        backups::a_snapshot_of_a_running_workspace_starts_another_one,
        backups::full_tar_is_written_and_restored_where_existing_agents_run,
        backups::a_refused_pod_is_wiped_and_begins_anew_and_an_aborted_workspace_leaves_nothing,
        backups::superseded_backups_are_pruned_and_the_newest_one_stays,
        backups::the_folder_of_a_container_that_was_killed_is_backed_up_and_never_taken_for_its_backup,
        deadly::an_operation_that_kills_its_agent_each_time_is_given_up,
        faults::a_backup_finds_its_place_if_the_heads_could_not_be_listed_when_its_content_was_made,
        faults::a_folder_without_a_usable_state_file_replaces_no_backup_and_stays,
        faults::content_is_backed_up_after_the_controller_gave_up_and_after_the_resource_is_gone,
        faults::a_full_disk_is_reported_and_costs_neither_a_backup_nor_other_workspaces,
        faults::the_time_until_giving_up_counts_from_the_first_failure_on,
        faults::a_store_that_denies_truncates_or_is_full_costs_no_content,
        housekeeping::only_what_is_proven_or_nobodys_is_removed,
        initializers::a_repository_and_files_come_from_their_servers_and_the_status_at_the_end_is_reported,
        initializers::a_login_that_is_answered_once_serves_all_repositories_of_a_workspace_and_is_in_no_file,
        initializers::a_prebuild_leaves_a_snapshot_and_logs_and_starts_a_workspace_that_falls_back_to_git,
        initializers::a_failure_is_one_sentence_with_its_owner_and_leaves_an_empty_folder,
        initializers::content_of_another_resource_with_the_same_instance_id_is_set_aside,
        initializers::content_without_a_state_file_is_set_aside_and_a_broken_one_changes_nothing,
        kills::a_backup_that_is_killed_anywhere_ends_with_one_proven_head_and_nothing_lost,
        kills::an_initialisation_that_is_killed_anywhere_ends_with_the_whole_content,
        kills::what_was_done_and_not_written_is_written_by_the_next_agent_without_doing_it_again,
        prebuilds::repositories_move_to_their_target_and_keep_the_changes,
        prebuilds::changes_that_conflict_stay_in_the_stash,
        prebuilds::hostile_settings_of_a_prebuild_run_nothing_and_are_kept,
        repositories::the_default_branch_is_cloned_for_the_user_of_the_workspace,
        repositories::every_target_is_checked_out,
        repositories::a_failed_clone_says_whose_fault_it_is,
        repositories::an_upstream_settings_and_submodules_are_part_of_a_clone,
        repositories::a_working_copy_is_left_alone_and_an_empty_repository_is_cloned,
        repositories::secrets_are_in_no_output_no_process_and_no_file,
        repositories::a_failure_with_an_address_of_ssh_says_that_there_are_no_keys,
        repositories::a_login_goes_to_its_own_host_only,
        repositories::the_ready_file_is_written_for_the_user,
        storage::a_full_workspace_is_backed_up_and_comes_back_at_its_quota_here_and_elsewhere,
        storage::a_backup_that_is_larger_than_the_quota_of_its_class_comes_back_and_takes_no_more,
        storage::subvolumes_go_with_their_workspaces_also_those_that_a_user_made,
        storage::a_folder_that_is_not_on_btrfs_is_refused_and_never_used_without_a_limit,
        storage::what_is_measured_is_reported_and_stops_no_write,
        status::the_lists_and_totals_are_those_of_the_working_copy,
        status::settings_and_filters_of_the_user_run_nothing,
    ];
    if !rustix::process::geteuid().is_root() {
        println!(
            "skipped {} tests of the content helper: they need root for namespaces and mounts",
            all.len()
        );
        return ExitCode::SUCCESS;
    }
    run(all, &arguments)
}

fn run(all: &[Test], arguments: &[String]) -> ExitCode {
    let wanted: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut failed = Vec::new();
    for (name, test) in all {
        if !wanted.is_empty() && !wanted.iter().any(|wanted| name.contains(wanted.as_str())) {
            continue;
        }
        let result = runtime.block_on(AssertUnwindSafe(test()).catch_unwind());
        println!("test {name} ... {}", if result.is_ok() { "ok" } else { "FAILED" });
        if result.is_err() {
            failed.push(*name);
        }
    }
    if failed.is_empty() {
        return ExitCode::SUCCESS;
    }
    println!("failed: {failed:?}");
    ExitCode::FAILURE
}
