-- Grants on `contact_next` what roles other than the owner were granted on `contact` and its columns.
do $$
declare
    given text;
begin
    for given in
        select format(
            'grant %s on contact_next to %s%s',
            privilege,
            case grantee when 0 then 'public' else quote_ident(pg_get_userbyid(grantee)) end,
            case when is_grantable then ' with grant option' end
        )
        from (
            select acl.privilege_type as privilege, acl.grantee, acl.is_grantable
            from pg_class, aclexplode(relacl) as acl
            where oid = to_regclass('contact') and acl.grantee <> relowner
            union all
            select format('%s (%I)', acl.privilege_type, a.attname), acl.grantee,
                acl.is_grantable
            from pg_attribute as a
            join pg_attribute as n
            on n.attrelid = 'contact_next'::regclass and n.attname = a.attname,
            aclexplode(a.attacl) as acl
            where a.attrelid = to_regclass('contact')
        ) as granted
    loop
        execute given;
    end loop;
end
$$;
