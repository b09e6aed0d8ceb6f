//! The use cases about member clusters and the installation.

use std::sync::Arc;

use super::base::Base;
use crate::clusters::applied::AppliedChanges;
use crate::clusters::classes::Classes;
use crate::clusters::cordon::Cordons;
use crate::clusters::deregister::Deregistration;
use crate::clusters::doctor::Doctor;
use crate::clusters::drain::Drains;
use crate::clusters::incarnation::Incarnations;
use crate::clusters::install::Installer;
use crate::clusters::installation_secret::InstallationSecret;
use crate::clusters::maintenance::Maintenance;
use crate::clusters::name::Names;
use crate::clusters::records::ClusterRecords;
use crate::clusters::register::Registration;
use crate::clusters::status::Overviews;
use crate::clusters::update::Updates;
use crate::clusters::verify::Verification;
use crate::clusters::view::Views;
use crate::clusters::watch::ClusterWatches;
use crate::federation::Clusters;

pub(super) fn clusters(base: &Base, records: &Arc<ClusterRecords>) -> Clusters {
    let Base { leadership, store, fleet, index, registry, .. } = base;
    let classes = Classes::new(fleet.clone(), index.clone());
    let views =
        Views::new(fleet.clone(), index.clone(), base.drains.clone(), base.notes.clone(), classes.clone());
    let drains = Drains::new(
        leadership.clone(),
        store.clone(),
        base.drains.clone(),
        fleet.clone(),
        index.clone(),
        registry.clone(),
    );
    let incarnations = Incarnations::new(leadership.clone(), store.clone());
    let (registration, updates, doctor) = registry_of(base, records, &views);
    Clusters {
        classes,
        watches: ClusterWatches::new(fleet.clone(), views.clone()),
        registration,
        cordons: Cordons::new(drains.clone(), updates.clone()),
        updates,
        deregistration: Deregistration::new(
            leadership.clone(),
            store.clone(),
            fleet.clone(),
            index.clone(),
            registry.clone(),
        ),
        doctor,
        installer: Installer::new(leadership.clone(), fleet.clone()),
        maintenance: Maintenance::new(leadership.clone(), fleet.clone(), views.clone()),
        secret: InstallationSecret::new(
            leadership.clone(),
            store.clone(),
            base.sealer.clone(),
            base.keyed.clone(),
        ),
        overviews: Overviews::new(
            views.clone(),
            fleet.clone(),
            index.clone(),
            drains.clone(),
            incarnations.clone(),
        ),
        views,
        drains,
        incarnations,
    }
}

fn registry_of(
    base: &Base,
    records: &Arc<ClusterRecords>,
    views: &Arc<Views>,
) -> (Arc<Registration>, Arc<Updates>, Arc<Doctor>) {
    let Base { leadership, fleet, index, .. } = base;
    let verification = Verification::new(fleet.clone(), base.installation.clone());
    let names = Names::new(index.clone(), base.store.clone());
    let applied = AppliedChanges::new(fleet.clone(), views.clone());
    let registration = Registration::new(
        leadership.clone(),
        records.clone(),
        fleet.clone(),
        verification.clone(),
        names.clone(),
        applied.clone(),
    );
    let updates = Updates::new(
        leadership.clone(),
        records.clone(),
        fleet.clone(),
        index.clone(),
        base.registry.clone(),
        verification.clone(),
        applied,
    );
    (registration, updates, Doctor::new(fleet.clone(), verification, names))
}
