-- Built after the bulk of the rows is there: one pass each. One statement per line.
CREATE INDEX IF NOT EXISTS package_by_maintainer ON package(maintainer_id);
CREATE INDEX IF NOT EXISTS package_by_section ON package(section_id, installed_kib);
CREATE INDEX IF NOT EXISTS package_by_priority ON package(priority_id);
CREATE INDEX IF NOT EXISTS package_by_source ON package(source);
CREATE INDEX IF NOT EXISTS package_by_size ON package(installed_kib);
CREATE INDEX IF NOT EXISTS dependency_by_target ON dependency(target_id, kind_id);
CREATE INDEX IF NOT EXISTS provided_by_name ON provided(name_id);
CREATE INDEX IF NOT EXISTS package_tag_by_tag ON package_tag(tag_id);
CREATE INDEX IF NOT EXISTS availability_by_package ON availability(package_id);
